"""``squeezenet.compression_table``: the paper's table 2, made on one's own images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from squeezenet.api.options import require_checkpoint_every, require_workers
from squeezenet.extras import require_extra
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.report.compression_table.results import CompressionTable


@dataclass(frozen=True, kw_only=True)
class CompressionTableResult:
    """The table: its folder with every network, its rows, and the page that shows them."""

    out: Path
    results: CompressionTable
    page: Path


def compression_table(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    arch: str | None = None,
    baseline: str | None = None,
    retrain_epochs: int | None = None,
    effort: Literal["low", "medium", "high"] = "medium",
    recipe: str | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    input_size: int | None = None,
    flip: bool | None = None,
    train_images: int | None = None,
    val_fraction: float = 0.1,
    device: str = "auto",
    checkpoint_every: float = 60.0,
    workers: int | None = None,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
    max_memory: str = DEFAULT_MAX_MEMORY,
    progress: Progress | None = None,
) -> CompressionTableResult:
    """Train AlexNet and SqueezeNet, compress them as in the paper's table 2, and compare; resumes.

    AlexNet as it is, by singular value decomposition, pruned, and by Deep Compression; SqueezeNet
    as it is, by Deep Compression to 8 and 6 bits, and by ``compress``'s method ``rd``. What was
    factorised, pruned or shared is retrained. ``arch`` is the SqueezeNet and ``baseline`` the
    AlexNet, each a name or a network's JSON file; by default the images decide. ``retrain_epochs``
    is the length of each retraining, ``effort`` that of ``rd``. Other options are those of
    ``train``.

    Accuracy is measured on the data's part ``test``, else on what training holds out. Every network
    is in ``out``, which the same call goes on with.

    Raises:
        MissingExtraError: a package of the extra ``explore`` is not installed.
        UsageError: options that do not fit together, or are out of range.
        StudyError: ``out`` holds another table or study.
        InterruptedRunError: SIGINT or SIGTERM came; the same call goes on.
        DataError, ImageError, CheckpointError: see ``train``.
    """
    require_extra("train", "exploring")
    require_extra("explore", "exploring")
    require_workers(workers)
    require_checkpoint_every(checkpoint_every)
    limits = parse_limits(max_pixels, max_memory)
    progress = progress or SilentProgress()
    from squeezenet.explore.compression_table.options import (
        CompressionTableOptions,
        define_compression_table,
    )
    from squeezenet.explore.compression_table.run import run_compression_table
    from squeezenet.explore.study_folder import StudyFolder
    from squeezenet.explore.trial import TrialJob
    from squeezenet.report.compression_table.write import write_table
    from squeezenet.train.plan import TrainOptions

    folder = StudyFolder(Path(out))
    folder.require_own()
    options = CompressionTableOptions(
        arch=arch,
        baseline=baseline,
        retrain_epochs=retrain_epochs,
        effort=effort,
        training=TrainOptions(
            recipe=recipe,
            epochs=epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            input_size=input_size,
            flip=flip,
            train_images=train_images,
            val_fraction=val_fraction,
        ),
    )
    definition = define_compression_table(str(data), str(out), options, progress, limits)
    job = TrialJob(
        source=str(data),
        training=options.training,
        folder=folder.trials,
        device=device,
        workers=workers,
        checkpoint_seconds=checkpoint_every,
        limits=limits,
    )
    results = definition.results(
        folder.name, run_compression_table(definition, folder, job, progress)
    )
    page = write_table(folder.report, results)
    return CompressionTableResult(out=folder.path, results=results, page=page)
