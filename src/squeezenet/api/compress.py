"""``squeezenet.compress``: a trained network to a measured ``.sqz`` file."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from squeezenet.api.class_names import Classes, class_labels
from squeezenet.api.options import (
    require_checkpoint_every,
    require_rank_timeout,
    require_seed,
    require_workers,
    set_threads,
    share_of_cores,
)
from squeezenet.codec.model_kinds import model_path
from squeezenet.errors import SpecError, UsageError
from squeezenet.extras import require_extra
from squeezenet.files import require_output
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.launch import this_launch
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.compress.file_record import Settings
    from squeezenet.compress.images import CompressionImages
    from squeezenet.compress.report import CompressionReport
    from squeezenet.model.loaded import LoadedModel

Method = Literal["rd", "deep-compression"]


def compress(
    model: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    method: Method = "rd",
    data: str | os.PathLike[str] | None = None,
    calib: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    val: str | os.PathLike[str] | None = None,
    target_bytes: int | None = None,
    max_drop: float | None = None,
    effort: Literal["low", "medium", "high"] | None = None,
    divergence: float | None = None,
    bits: int | None = None,
    layer_bits: Mapping[str, int] | None = None,
    density: float | None = None,
    layer_density: Mapping[str, float] | None = None,
    scan_budget: float | None = None,
    prune_epochs: int | None = None,
    share_epochs: int | None = None,
    learning_rate: float | None = None,
    recipe: str | None = None,
    temperature: bool = True,
    arch: str | None = None,
    classes: Classes | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoint_every: float = 60.0,
    strict: bool = False,
    workers: int | None = None,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
    max_memory: str = DEFAULT_MAX_MEMORY,
    rank_timeout: float = 600.0,
    progress: Progress | None = None,
) -> CompressionReport:
    """Compress a model into the ``.sqz`` file ``out``, and measure that file.

    ``model`` is a run folder, a model file, or the word ``default``. ``classes`` names its outputs
    if its file does not, as in ``open_model``; the names are kept in the new file. Give ``data``
    (labelled images to learn from) or ``calib`` (images without labels, which teach by the
    original's predictions): a folder, or the word ``digits``; of ``calib`` also several. ``val``
    has labelled images to measure with, by default a part of the others. ``temperature``: if they
    have labels, the last layer is divided by the temperature that fits them best, so that
    probabilities mean what they say. The same call goes on with what was interrupted.
    Options are those of ``squeezenet compress``; messages name them as a command line does:
    ``--max-drop`` is ``max_drop``. ``workers``, ``threads``, ``max_pixels``, ``max_memory`` and
    ``progress`` are as in ``train``. So is ``rank_timeout``: several ranks share all that runs
    images, and rank 0 alone rounds and writes.

    A file that is larger than ``target_bytes``, or loses more than ``max_drop``, is written all the
    same; ``require_quality()`` of the report refuses it.

    Raises:
        MissingExtraError: torch or another package of the extra ``train`` is not installed.
        UsageError: options that do not fit together, or are out of range.
        FormatError, WeightsError: the model is damaged, or no model.
        DataError, ImageError: the images cannot be used.
        QualityError: no setting reaches ``target_bytes``.
        InterruptedRunError: SIGINT or SIGTERM came; the same call goes on.
    """
    require_extra("train", "compressing")
    source, file = model_path(model) if isinstance(model, str) else Path(model), Path(out)
    require_output(file, source, (".sqz",))
    require_seed(seed)
    require_workers(workers)
    limits = parse_limits(max_pixels, max_memory)
    require_checkpoint_every(checkpoint_every)
    require_rank_timeout(rank_timeout)
    if max_drop is not None and math.isnan(max_drop):
        raise UsageError("--max-drop nan, expected a number")
    if target_bytes is not None and target_bytes < 1:
        raise UsageError(f"--target-bytes {target_bytes}, expected 1 or more")
    settings = _settings(
        method,
        {"target_bytes": target_bytes},
        {"max_drop": max_drop, "effort": effort, "divergence": divergence},
        {
            "bits": bits,
            "layer_bits": dict(layer_bits) if layer_bits else None,
            "density": density,
            "densities": dict(layer_density) if layer_density else None,
            "scan_budget": scan_budget,
            "prune_epochs": prune_epochs,
            "share_epochs": share_epochs,
            "learning_rate": learning_rate,
        },
    )
    from squeezenet.compress.feasibility import require_reachable
    from squeezenet.compress.images import open_compression_images
    from squeezenet.compress.retrain import base_recipe
    from squeezenet.compress.run import compress_model
    from squeezenet.images.bad import BadImages
    from squeezenet.images.sets import require_readable_classes
    from squeezenet.images.walk import log_findings
    from squeezenet.model.load import load_model
    from squeezenet.train.distributed.group import joined_ranks
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware

    sources = _words(calib)
    launch = this_launch()
    set_threads(threads if threads is not None else share_of_cores(launch))
    if progress is None or not launch.is_main:
        progress = SilentProgress()
    bad = BadImages(strict=strict, report=progress.log)
    hardware = choose_hardware(device, local_rank=launch.local_rank)
    with joined_ranks(hardware.device, rank_timeout) as ranks:

        def open_all() -> tuple[LoadedModel, CompressionImages, Settings]:
            loaded = load_model(source, arch, labels=class_labels(classes), progress=progress)
            images = open_compression_images(
                loaded.record, data=_word(data), calib=sources, val=_word(val), seed=seed,
                limits=limits, log=progress.log,
            )  # fmt: skip
            log_findings(images.findings, progress)
            if images.labelled:
                require_readable_classes(images.retrain)
            suited = for_few_images(settings, divergence, len(images.retrain), progress)
            require_reachable(loaded.record, images, suited, max_drop)
            return loaded, images, suited

        loaded, images, chosen = ranks.together(open_all)
        report = compress_model(
            loaded,
            images,
            file,
            chosen,
            base_recipe(loaded.record, _word(data) or next(iter(sources), ""), recipe),
            seed=seed,
            max_drop=max_drop,
            temperature=temperature,
            options=FitOptions(
                hardware=hardware,
                workers=workers,
                checkpoint_seconds=checkpoint_every,
                ranks=ranks,
                bad=bad,
                progress=progress,
            ),
        )
        ranks.collect(bad)
    return dataclasses.replace(report, skipped=bad.count, findings=images.findings)


def _settings(
    method: str, both: dict[str, Any], of_rd: dict[str, Any], of_paper: dict[str, Any]
) -> Settings:
    """The method's settings from options, None being one that was not given.

    Raises:
        UsageError: an option of the other method was given, or one is out of its range.
    """
    from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
    from squeezenet.compress.rate_distortion.settings import RateDistortionSettings

    if method not in ("rd", "deep-compression"):
        raise UsageError(f"--method {method}, expected rd or deep-compression")
    rd = method == "rd"
    own, foreign = (of_rd, of_paper) if rd else (of_paper, of_rd)
    for name, value in foreign.items():
        # Deep Compression does not search by --max-drop, but keeps to it.
        if value is not None and name != "max_drop":
            option = "layer-density" if name == "densities" else name.replace("_", "-")
            other = "deep-compression" if rd else "rd"
            raise UsageError(f"--{option} belongs to --method {other}, not to {method}")
    given = {name: value for name, value in (both | own).items() if value is not None}
    kind = RateDistortionSettings if rd else DeepCompressionSettings
    try:
        return kind(**given)
    except SpecError as error:
        raise UsageError(str(error)) from None


def for_few_images(
    settings: Settings, divergence: float | None, num_images: int, progress: Progress
) -> Settings:
    """Return method rd's settings with a smaller default divergence where images are few."""
    from squeezenet.compress.rate_distortion.settings import (
        RateDistortionSettings,
        default_divergence,
    )

    suited = default_divergence(num_images)
    if not isinstance(settings, RateDistortionSettings) or suited == settings.divergence:
        return settings
    if (divergence, settings.target_bytes, settings.max_drop) != (None, None, None):
        return settings
    progress.log(f"{num_images} images are few, so the default is --divergence {suited:g}")
    return dataclasses.replace(settings, divergence=suited)


def _words(
    calib: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> tuple[str, ...]:
    """One or several folders, or words, as text."""
    if calib is None:
        return ()
    if isinstance(calib, str | os.PathLike):
        return (str(calib),)
    return tuple(map(str, calib))


def _word(data: str | os.PathLike[str] | None) -> str | None:
    """A folder, or a word that stands for one, as text."""
    return None if data is None else str(data)
