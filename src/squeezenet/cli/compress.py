"""``squeezenet compress``: a trained network to a ``.sqz`` file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from squeezenet.api.compress import compress as compress_to_file
from squeezenet.cli.options import (
    RUNNING,
    ArchOption,
    CheckpointOption,
    ClassesOption,
    DeviceOption,
    JsonOption,
    ListUnusedOption,
    MaxMemoryOption,
    MaxPixelsOption,
    ModelArgument,
    RankTimeoutOption,
    SeedOption,
    StrictOption,
    ThreadsOption,
    WorkersOption,
)
from squeezenet.cli.output import (
    make_progress,
    plain,
    print_json,
    report_skipped,
    report_unused,
)
from squeezenet.cli.table import Column, print_table, print_text
from squeezenet.errors import UsageError
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY
from squeezenet.launch import this_launch

if TYPE_CHECKING:
    from squeezenet.compress.report import CompressionReport


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
        Parameter(
            group=_COMMON, help="Labelled images to learn from: a folder, shards, or digits."
        ),
    ] = None,
    calib: Annotated[
        list[str] | None,
        Parameter(
            group=_COMMON,
            negative=(),
            help="Images without labels, instead of --data: the original model's predictions "
            "are the targets. May be repeated.",
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
    classes: Annotated[ClassesOption, Parameter(group=_COMMON)] = None,
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
            help="Target KL divergence predicted by the quadratic model, in nats (default 0.07, or "
            "0.01 with fewer than 500 images). Measured KL is usually a third to a half of it; "
            "with few images it is more.",
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
    layer_bits: Annotated[
        list[str] | None,
        Parameter(
            group=_DEEP,
            negative=(),
            help="Bits per weight of one layer, as conv1=8. May be repeated.",
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
    temperature: Annotated[
        bool,
        Parameter(
            group=_COMMON,
            help="Divide the last layer by a temperature, fitted on the labelled images that "
            "measure, so that probabilities mean what they say.",
        ),
    ] = True,
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
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    rank_timeout: RankTimeoutOption = 600.0,
    list_unused: ListUnusedOption = False,
    json: JsonOption = False,
) -> None:
    """Compress a model to a .sqz file and measure what it lost."""
    progress = make_progress()
    report = compress_to_file(
        model,
        out=out,
        method=method,
        data=data,
        calib=calib,
        val=val,
        target_bytes=target_bytes,
        max_drop=max_drop,
        effort=effort,
        divergence=divergence,
        bits=bits,
        density=density,
        layer_bits=dict(_layer_bits(text) for text in layer_bits or ()),
        layer_density=dict(_layer_density(text) for text in layer_density or ()),
        scan_budget=scan_budget,
        prune_epochs=prune_epochs,
        share_epochs=share_epochs,
        learning_rate=learning_rate,
        recipe=recipe,
        temperature=temperature,
        arch=arch,
        classes=classes,
        seed=seed,
        device=device,
        threads=threads,
        checkpoint_every=checkpoint_every,
        strict=strict,
        workers=workers,
        max_pixels=max_pixels,
        max_memory=max_memory,
        rank_timeout=rank_timeout,
        progress=progress,
    )
    if this_launch().is_main:
        report_skipped(report.skipped, progress)
        report_unused(report.findings, progress, list_all=list_unused)
        show_report(report, out, as_json=json)
    report.require_quality()


def show_report(report: CompressionReport, out: Path, *, as_json: bool) -> None:
    """Print the stage table, or everything that was measured as JSON."""
    before, after = report.stages[0], report.stages[-1]
    if as_json:
        fields = dataclasses.asdict(report)
        del fields["findings"]
        print_json(
            plain(
                {
                    "out": str(out),
                    **fields,
                    "not_used": report.findings.counts,
                    "before": {"top1": before.top1, "top5": before.top5},
                    "after": {"top1": after.top1, "top5": after.top5},
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
    if report.calibration is not None:
        found = report.calibration
        print_text(
            f"expected calibration error {found.before:.1f} points before, {found.after:.1f} after "
            f"(temperature {found.temperature:.3f})"
        )


def _layer_bits(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        return name, int(value)
    except ValueError:
        raise UsageError(f"--layer-bits {text!r}, expected LAYER=BITS such as conv1=8") from None


def _layer_density(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(
            f"--layer-density {text!r}, expected LAYER=FRACTION such as fire2/expand3x3=0.33"
        ) from None
