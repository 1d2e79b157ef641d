"""``squeezenet compress``: a trained network to a ``.sqz`` file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from squeezenet.cli.options import (
    RUNNING,
    ArchOption,
    CheckpointOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    StrictOption,
    ThreadsOption,
    WorkersOption,
    require_checkpoint_every,
    require_seed,
    require_workers,
    set_threads,
)
from squeezenet.cli.output import bad_images, make_progress, plain, print_json, report_skipped
from squeezenet.cli.table import Column, print_table, print_text
from squeezenet.errors import SpecError, UsageError
from squeezenet.extras import require_extra
from squeezenet.files import require_output

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.compress.run import CompressionReport, Settings
    from squeezenet.train.recipe import Recipe


_COLUMNS = (
    Column("stage", rank=1, shorten="end", min_width=6),
    Column("density %", rank=4, optional=True),
    Column("bits/weight", rank=5, optional=True),
    Column("bits/gap", rank=6, optional=True),
    Column("bytes"),
    Column("smaller", rank=2, optional=True),
    Column("top-1"),
    Column("top-5", rank=3, optional=True),
)
"""The stage table. At 40 columns stage, bytes, how much smaller, and top-1 are left."""
_COMMON = Group("Common", sort_key=1)
_RD = Group("Method rd", sort_key=2)
_DEEP = Group("Method deep-compression", sort_key=3)


def compress(
    model: ModelArgument,
    /,
    *,
    out: Annotated[Path, Parameter(group=_COMMON, help="File to write; it ends in .sqz.")],
    method: Annotated[
        Literal["rd", "deep-compression"],
        Parameter(
            group=_COMMON,
            help="rd: integer levels by rate-distortion optimization. deep-compression: the "
            "paper's pruning, weight sharing and entropy coding.",
        ),
    ] = "rd",
    data: Annotated[
        str | None,
        Parameter(group=_COMMON, help="Labelled images to learn from: a folder, or digits."),
    ] = None,
    calib: Annotated[
        str | None,
        Parameter(
            group=_COMMON,
            help="Images without labels, instead of --data: the original model's predictions "
            "are the targets.",
        ),
    ] = None,
    val: Annotated[
        str | None,
        Parameter(
            group=_COMMON,
            help="Labelled images to measure on. By default a part of --data or --calib is held "
            "out.",
        ),
    ] = None,
    target_bytes: Annotated[
        int | None,
        Parameter(
            group=_COMMON, help="Max size of the file. The method's settings are searched for it."
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        Parameter(
            group=_COMMON,
            help="Max loss in points of top-1 (with --calib and no --val: of agreement). rd "
            "searches for the smallest file within it. Exit code 3 if the file loses more.",
        ),
    ] = None,
    effort: Annotated[
        Literal["low", "medium", "high"] | None,
        Parameter(
            group=_RD,
            help="low and medium (default) take minutes. high trains as well: with 10,000 "
            "labelled images or more it prunes and retrains first, else it trains the levels.",
        ),
    ] = None,
    divergence: Annotated[
        float | None,
        Parameter(
            group=_RD,
            help="Target KL divergence predicted by the quadratic model, in nats (default 0.07). "
            "Measured KL is usually a third to a half of it.",
        ),
    ] = None,
    bits: Annotated[
        int | None,
        Parameter(
            group=_DEEP,
            help="Bits per weight: at most 2^bits − 1 distinct non-zero values per layer "  # noqa: RUF001 - minus
            "(default 6).",
        ),
    ] = None,
    density: Annotated[
        float | None,
        Parameter(
            group=_DEEP,
            help="Fraction of weights kept, spread over the layers by LAMP. By default a "
            "sensitivity scan decides for each layer.",
        ),
    ] = None,
    layer_density: Annotated[
        list[str] | None,
        Parameter(
            group=_DEEP,
            negative=(),
            help="Fraction kept in one layer, as fire2/expand3x3=0.33. May be repeated.",
        ),
    ] = None,
    scan_budget: Annotated[
        float | None,
        Parameter(
            group=_DEEP,
            help="Max loss in points of accuracy from pruning one layer in the scan (default 0.5).",
        ),
    ] = None,
    prune_epochs: Annotated[
        int | None,
        Parameter(
            group=_DEEP,
            help="Epochs of retraining the pruned network (default 10, more for small sets).",
        ),
    ] = None,
    share_epochs: Annotated[
        int | None,
        Parameter(
            group=_DEEP,
            help="Epochs of fine-tuning the shared weights (default 4, more for small sets).",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, Parameter(group=_DEEP, help="Learning rate of the retraining (default 0.02).")
    ] = None,
    recipe: Annotated[
        str | None,
        Parameter(
            group=RUNNING,
            help="Recipe whose batch size and augmentation the retraining uses. By default the "
            "data decide.",
        ),
    ] = None,
    arch: ArchOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    checkpoint_every: CheckpointOption = 60.0,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Compress a model to a .sqz file and measure what it lost."""
    require_extra("train", "compressing")
    require_output(out, model, (".sqz",))
    require_seed(seed)
    require_workers(workers)
    require_checkpoint_every(checkpoint_every)
    settings = _settings(
        method,
        target_bytes,
        max_drop,
        {"effort": effort, "divergence": divergence},
        {
            "bits": bits,
            "density": density,
            "layer_density": layer_density,
            "scan_budget": scan_budget,
            "prune_epochs": prune_epochs,
            "share_epochs": share_epochs,
            "learning_rate": learning_rate,
        },
    )
    from squeezenet.compress.feasibility import require_reachable
    from squeezenet.compress.images import open_compression_images
    from squeezenet.compress.run import compress_model
    from squeezenet.model.load import load_model
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware

    set_threads(threads)
    progress = make_progress()
    loaded = load_model(model, arch)
    images = open_compression_images(loaded.record, data=data, calib=calib, val=val, seed=seed)
    require_reachable(loaded.record, images, settings, max_drop)
    bad = bad_images(progress, strict=strict)
    report = compress_model(
        loaded,
        images,
        out,
        settings,
        _base_recipe(loaded.record, data or calib or "", recipe),
        seed=seed,
        max_drop=max_drop,
        options=FitOptions(
            hardware=choose_hardware(device),
            workers=workers,
            checkpoint_seconds=checkpoint_every,
            bad=bad,
            progress=progress,
        ),
    )
    report_skipped(bad, progress)
    show_report(report, out, as_json=json, skipped=bad.count)
    report.require_quality()


def _settings(
    method: str,
    target_bytes: int | None,
    max_drop: float | None,
    of_rd: dict[str, Any],
    of_deep: dict[str, Any],
) -> Settings:
    """Return the method's settings; an option that is None was not given.

    Raises:
        UsageError: an option of the other method was given, or one is out of its range.
    """
    from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
    from squeezenet.compress.rate_distortion.settings import RateDistortionSettings

    if max_drop is not None and math.isnan(max_drop):
        raise UsageError("--max-drop nan, expected a number")
    if target_bytes is not None and target_bytes < 1:
        raise UsageError(f"--target-bytes {target_bytes}, expected 1 or more")
    rd = method == "rd"
    own, foreign = (of_rd, of_deep) if rd else (of_deep, of_rd)
    for name, value in foreign.items():
        if value is not None:
            other = "deep-compression" if rd else "rd"
            option = name.replace("_", "-")
            raise UsageError(f"--{option} belongs to --method {other}, not to {method}")
    if rd:  # Deep Compression does not search by --max-drop; its file is judged by it
        own |= {"max_drop": max_drop}
    elif layer_densities := own.pop("layer_density"):
        own |= {"densities": dict(_layer_density(text) for text in layer_densities)}
    own |= {"target_bytes": target_bytes}
    kind = RateDistortionSettings if rd else DeepCompressionSettings
    try:
        return kind(**{name: value for name, value in own.items() if value is not None})
    except SpecError as error:
        raise UsageError(str(error)) from None


def _base_recipe(record: ModelRecord, source: str, name: str | None) -> Recipe:
    """Return the named recipe, or the data's default with the augmentation of the training."""
    from squeezenet.train.recipe import default_recipe, recipe_named, recorded_augmentation

    if name is not None:
        return recipe_named(name)
    recipe = default_recipe(source, input_size=record.spec.input_size)
    known = recorded_augmentation(record)
    return recipe if known is None else dataclasses.replace(recipe, augmentation=known)


def show_report(report: CompressionReport, out: Path, *, as_json: bool, skipped: int) -> None:
    """Print the stage table, or everything that was measured as JSON."""
    before, after = report.stages[0], report.stages[-1]
    if as_json:
        print_json(
            plain(
                {
                    "out": str(out),
                    **dataclasses.asdict(report),
                    "before": {"top1": before.top1, "top5": before.top5},
                    "after": {"top1": after.top1, "top5": after.top5},
                    "skipped": skipped,
                }
            )
        )
        return
    print_table(
        f"Method {report.method}, accuracy on {report.measured_images:,} images",
        _COLUMNS,
        [
            (
                row.stage,
                row.density,
                row.bits_per_weight,
                row.bits_per_gap,
                row.bytes,
                f"{before.bytes / row.bytes:.1f}x",
                row.top1,
                row.top5,
            )
            for row in report.stages
        ],
    )
    print()
    print_text(
        f"{out}: {report.file_bytes:,} bytes; {report.comparison.agreement:.1f}% of predictions "
        f"as before, KL {report.comparison.kl:.4f} nats"
    )


def _layer_density(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(
            f"--layer-density {text!r}, expected LAYER=FRACTION such as fire2/expand3x3=0.33"
        ) from None
