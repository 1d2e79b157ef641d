"""``squeezenet.train``: labelled images to a trained network, in a run folder."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from squeezenet.api.class_names import Classes, class_labels
from squeezenet.api.options import (
    require_checkpoint_every,
    require_keep,
    require_rank_timeout,
    require_seed,
    require_workers,
    set_threads,
    share_of_cores,
)
from squeezenet.codec.model_kinds import BEST_WEIGHTS, DEFAULT, model_path
from squeezenet.errors import SqueezeNetError
from squeezenet.extras import require_extra
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.launch import this_launch
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.data.sources import TrainingData
    from squeezenet.images.bad import BadImages
    from squeezenet.images.walk import Findings


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training run.

    ``out`` is the run folder, which ``open_model`` and ``compress`` take as a model. ``best_top1``
    and ``last_top1`` are percent of the ``val_images`` held out, after ``best_epoch`` and at the
    end. ``from_`` is the model that was fine-tuned, with ``new_head`` if its last layer was learned
    anew. ``steps`` are optimiser steps, ``skipped`` counts images that could not be read, and
    ``findings`` has the files of the data that are no pictures. ``ranks`` is the number of
    processes that trained at the end.
    """

    out: Path
    arch: str
    recipe: str
    seed: int
    steps: int
    epochs: float
    best_top1: float
    best_epoch: int
    last_top1: float
    seconds: float
    ranks: int
    from_: str | None
    new_head: bool
    train_images: int
    val_images: int
    classes: int
    skipped: int
    findings: Findings

    @property
    def weights(self) -> Path:
        """The file of the best weights."""
        return self.out / BEST_WEIGHTS

    @property
    def report(self) -> Path | None:
        """The folder of curves, confusion matrix, worst mistakes and model card, if it is there."""
        from squeezenet.train.run_folder import REPORT

        folder = self.out / REPORT
        return folder if folder.is_dir() else None


def train(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    arch: str | None = None,
    from_: str | os.PathLike[str] | None = None,
    classes: Classes | None = None,
    new_head: bool = False,
    teacher: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    learning_rate: float | None = None,
    input_size: int | None = None,
    input_channels: int | None = None,
    batch_norm: bool | None = None,
    flip: bool | None = None,
    train_images: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int | None = None,
    checkpoint_every: float = 60.0,
    keep: int = 2,
    keep_checkpoints: bool = False,
    comm_hook: Literal["none", "fp16", "bf16", "int8", "powersgd"] = "none",
    powersgd_rank: int = 2,
    sync_batch_norm: bool = False,
    rank_timeout: float = 600.0,
    strict: bool = False,
    workers: int | None = None,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
    max_memory: str = DEFAULT_MAX_MEMORY,
    report: bool = True,
    progress: Progress | None = None,
) -> TrainResult:
    """Train or fine-tune a network; resumes where it was stopped.

    ``data`` is a folder ``<class>/<image>``, a folder with ``train/`` and perhaps ``val/`` of that
    form, shards of either (``shard``) in a folder or at a URL, or the word ``digits``. ``arch`` is
    the network to train from scratch: a name, or the path of a JSON file that describes one.
    ``from_`` is the model to fine-tune: a path, ``default``, or the name of published weights; with
    the JSON file of a network too, that network takes the layers that both have in common;
    ``classes`` names its outputs if its file does not, as in ``open_model``. Without both, the data
    decide. ``teacher`` is a model, named as ``from_`` is, whose predictions are learned beside the
    labels (distillation, arXiv 1503.02531). ``out`` is the run folder, by default ``runs/`` and the
    data's name. The same call resumes an interrupted run and returns the result of a finished one;
    with more ``epochs`` it trains a run longer. ``train_images`` trains on so many images, the same
    ones every time.
    Options are those of ``squeezenet train``; messages name them as a command line does:
    ``--val-fraction`` is ``val_fraction``.

    Large sets are decoded in ``workers`` processes: a script that does not pass ``workers=0``
    needs the usual ``if __name__ == "__main__"``. ``threads`` sets torch's threads for the whole
    process. ``max_pixels`` and ``max_memory`` (``500M``, ``2G``) bound what one image may take.
    ``keep`` checkpoints are kept while training, all with ``keep_checkpoints``.

    A script that torchrun starts is a job of several ranks, which share every batch; each calls
    this with the same arguments and gets the same result. ``comm_hook``, ``powersgd_rank`` and
    ``sync_batch_norm`` say how they average gradients and statistics, ``rank_timeout`` how many
    seconds one waits for another. See docs/distributed.md.

    ``report`` draws the run's report, where matplotlib is installed. ``progress``, a
    ``squeezenet.progress.Progress``, shows messages and how far the work is; by default nothing
    does.

    Raises:
        MissingExtraError: torch or another package of the extra ``train`` is not installed.
        UsageError: options that do not fit together, or are out of range.
        FetchError: published weights are neither in the cache nor reachable.
        DataError, ImageError: the data cannot be used.
        DistributedError: ranks lost each other, or were given different arguments or data.
        CheckpointError: ``out`` holds another run, or cannot be written.
        InterruptedRunError: SIGINT or SIGTERM came; a checkpoint was written.
        DivergenceError: the loss is no longer finite.
    """
    require_extra("train", "training")
    require_seed(seed)
    require_workers(workers)
    limits = parse_limits(max_pixels, max_memory)
    require_checkpoint_every(checkpoint_every)
    require_keep(keep)
    require_rank_timeout(rank_timeout)
    from squeezenet.data.locations import data_name
    from squeezenet.images.bad import BadImages
    from squeezenet.train.distributed.gradients import GradientOptions
    from squeezenet.train.distributed.group import joined_ranks
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware
    from squeezenet.train.plan import TrainOptions, default_run_folder, plan_training

    options = TrainOptions(
        arch=arch,
        start=start_model(from_),
        classes=class_labels(classes),
        new_head=new_head,
        teacher=start_model(teacher),
        recipe=recipe,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        micro_batch=micro_batch,
        learning_rate=learning_rate,
        input_size=input_size,
        input_channels=input_channels,
        batch_norm=batch_norm,
        flip=flip,
        train_images=train_images,
        val_fraction=val_fraction,
        seed=seed,
    )
    gradients = GradientOptions(
        comm_hook=comm_hook, powersgd_rank=powersgd_rank, sync_batch_norm=sync_batch_norm
    )
    launch = this_launch()
    set_threads(threads if threads is not None else share_of_cores(launch))
    if progress is None or not launch.is_main:
        progress = SilentProgress()
    bad = BadImages(strict=strict, report=progress.log)
    hardware = choose_hardware(device, precision, launch.local_rank)
    with joined_ranks(hardware.device, rank_timeout) as ranks:
        fit_options = FitOptions(
            hardware=hardware,
            workers=workers,
            checkpoint_seconds=checkpoint_every,
            keep=keep,
            keep_checkpoints=keep_checkpoints,
            ranks=ranks,
            gradients=gradients,
            bad=bad,
            progress=progress,
        )
        plan = ranks.together(lambda: plan_training(str(data), options, progress, limits))
        if out is None:
            out = default_run_folder(str(data))
            progress.log(f"no --out: the run is in {out}")
        run = Path(out)
        measured = plan.run(run, fit_options)
        ranks.collect(bad)
    if report and launch.is_main:
        _draw_report(run, plan.data, data_name(str(data)), workers, bad, progress)
    measured["from_"] = measured.pop("from")
    known = {field.name for field in dataclasses.fields(TrainResult)}
    fields = {"ranks": 1} | {name: value for name, value in measured.items() if name in known}
    return TrainResult(out=run, skipped=bad.count, findings=plan.data.findings, **fields)


def _draw_report(
    run: Path,
    images: TrainingData,
    data: str,
    workers: int | None,
    bad: BadImages,
    progress: Progress,
) -> None:
    """Draw the report, if it is not there; an error costs the pictures, not the training."""
    try:
        require_extra("report", "drawing the report")
        from squeezenet.api.open_model import open_model
        from squeezenet.api.report import draw_report
        from squeezenet.report.write import CARD
        from squeezenet.train.run_folder import REPORT, RESULT

        report = run / REPORT
        card = report / CARD
        # An older card is of the run before it was trained longer.
        if card.is_file() and card.stat().st_mtime_ns >= (run / RESULT).stat().st_mtime_ns:
            return
        draw_report(
            open_model(run),
            images.val,
            report,
            f"held out from {data} and never trained on",
            dataset=data,
            chose_weights=True,
            workers=workers,
            bad=bad,
            progress=progress,
        )
    except (SqueezeNetError, OSError, ValueError) as error:
        progress.log(f"no report: {error}; squeezenet report draws one later")


def start_model(model: str | os.PathLike[str] | None) -> Path | str | None:
    """Return a model to start or learn from as a path, or a name of published weights as it is."""
    if model is None or (isinstance(model, str) and model != DEFAULT):
        return model
    return model_path(model) if isinstance(model, str) else Path(model)
