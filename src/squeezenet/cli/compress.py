"""``squeezenet compress``: a trained network to a ``.sqz`` file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from squeezenet.api.compress import compress as compress_to_file
from squeezenet.cli.options import (
    ArchOption,
    CheckpointOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    StrictOption,
    ThreadsOption,
    WorkersOption,
)
from squeezenet.cli.output import make_progress, plain, print_json, print_table, report_skipped
from squeezenet.errors import UsageError

if TYPE_CHECKING:
    from squeezenet.compress.run import CompressionReport


def compress(
    model: ModelArgument,
    /,
    *,
    out: Annotated[Path, Parameter(help="File to write.")],
    method: Annotated[
        Literal["rd", "deep-compression"],
        Parameter(help="rd trades bits for divergence; the paper's prunes, shares and codes."),
    ] = "rd",
    data: Annotated[
        str | None, Parameter(help="Labelled images to learn from: a folder or digits.")
    ] = None,
    calib: Annotated[
        str | None,
        Parameter(help="Images without labels: learns from the original's answers."),
    ] = None,
    val: Annotated[
        str | None,
        Parameter(help="Labelled images to measure with; else part of --data or --calib."),
    ] = None,
    target_bytes: Annotated[
        int | None, Parameter(help="Size to stay within; the method's setting is searched for.")
    ] = None,
    max_drop: Annotated[
        float | None,
        Parameter(
            help="Points of top-1 that may be lost (of agreement, by --calib): rd searches for "
            "the smallest file; exit 3 if the file loses more."
        ),
    ] = None,
    effort: Annotated[
        Literal["low", "medium", "high"] | None,
        Parameter(
            help="rd: low and medium (the default) take minutes; high trains as well: with many "
            "labelled images it prunes and retrains first, else it trains the levels."
        ),
    ] = None,
    divergence: Annotated[
        float | None,
        Parameter(
            help="rd: nats of KL that fine rounding would cost, 0.07 unless told; a third to half "
            "of it comes true."
        ),
    ] = None,
    bits: Annotated[
        int | None, Parameter(help="Bits a code: 2^bits - 1 weights are shared; 6 unless told.")
    ] = None,
    density: Annotated[
        float | None,
        Parameter(help="Share of weights kept, spread over the layers by LAMP; else scanned for."),
    ] = None,
    layer_density: Annotated[
        list[str] | None,
        Parameter(help="Share for one layer, as fire2/expand3x3=0.33; may be repeated."),
    ] = None,
    scan_budget: Annotated[
        float | None,
        Parameter(help="Points of accuracy that pruning one layer may cost in the scan; 0.5."),
    ] = None,
    prune_epochs: Annotated[
        int | None,
        Parameter(help="Retraining with the mask held; by default 10, more for small sets."),
    ] = None,
    share_epochs: Annotated[
        int | None,
        Parameter(help="Fine-tuning of the shared weights; by default 4, more for small sets."),
    ] = None,
    learning_rate: Annotated[
        float | None, Parameter(help="Of the retraining, 0.02 unless told.")
    ] = None,
    recipe: Annotated[
        str | None, Parameter(help="Whose batch size and augmentation the retraining takes.")
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
    """Compress a model; every stage's size and accuracy is shown."""
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
        layer_density=dict(_layer_density(text) for text in layer_density or ()),
        scan_budget=scan_budget,
        prune_epochs=prune_epochs,
        share_epochs=share_epochs,
        learning_rate=learning_rate,
        recipe=recipe,
        arch=arch,
        seed=seed,
        device=device,
        threads=threads,
        checkpoint_every=checkpoint_every,
        strict=strict,
        workers=workers,
        progress=progress,
    )
    report_skipped(report.skipped, progress)
    show_report(report, out, as_json=json)
    report.require_quality()


def show_report(report: CompressionReport, out: Path, *, as_json: bool) -> None:
    """Print the stage table, or all that was measured as JSON."""
    before, after = report.stages[0], report.stages[-1]
    if as_json:
        print_json(
            plain(
                {
                    "out": str(out),
                    **dataclasses.asdict(report),
                    "before": {"top1": before.top1, "top5": before.top5},
                    "after": {"top1": after.top1, "top5": after.top5},
                }
            )
        )
        return
    print_table(
        f"Method {report.method}, accuracy on {report.measured_images} images",
        ["stage", "density %", "bits/weight", "bits/gap", "bytes", "smaller", "top-1", "top-5"],
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
    print(
        f"\n{out}: {report.file_bytes:,} bytes; {report.comparison.agreement:.1f}% of answers as "
        f"before, KL {report.comparison.kl:.4f} nats"
    )


def _layer_density(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(
            f"--layer-density {text!r}, expected LAYER=SHARE such as fire2/expand3x3=0.33"
        ) from None
