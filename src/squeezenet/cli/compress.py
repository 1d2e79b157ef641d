"""``squeezenet compress``: a trained network to a ``.sqz`` file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

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
    require_checkpoint_every,
    require_seed,
    require_workers,
    set_threads,
)
from squeezenet.cli.output import (
    bad_images,
    make_progress,
    plain,
    print_json,
    print_table,
    report_skipped,
)
from squeezenet.errors import SpecError, UsageError
from squeezenet.extras import require_extra
from squeezenet.files import require_output

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.compress.report import CompressionReport
    from squeezenet.compress.run import Settings
    from squeezenet.train.recipe import Recipe


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
    require_extra("train", "compressing")
    require_output(out, model, (".sqz",))
    require_seed(seed)
    require_workers(workers)
    require_checkpoint_every(checkpoint_every)
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
            "density": density,
            "densities": dict(_layer_density(text) for text in layer_density or ()) or None,
            "scan_budget": scan_budget,
            "prune_epochs": prune_epochs,
            "share_epochs": share_epochs,
            "learning_rate": learning_rate,
        },
    )
    from squeezenet.compress.images import open_compression_images
    from squeezenet.compress.run import compress_model
    from squeezenet.model.load import load_model
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware

    set_threads(threads)
    progress = make_progress()
    loaded = load_model(model, arch)
    images = open_compression_images(loaded.record, data=data, calib=calib, val=val, seed=seed)
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
    method: str, both: dict[str, Any], of_rd: dict[str, Any], of_paper: dict[str, Any]
) -> Settings:
    """The method's settings from options, None being one that was not given.

    Raises:
        UsageError: an option of the other method was given, or one is out of its range.
    """
    from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
    from squeezenet.compress.rate_distortion.settings import RateDistortionSettings

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


def _base_recipe(record: ModelRecord, source: str, name: str | None) -> Recipe:
    """The recipe asked for, or one for the data, with the augmentation of the model's training."""
    from squeezenet.train.recipe import recipe_named
    from squeezenet.train.run import default_recipe, recorded_augmentation

    if name is not None:
        return recipe_named(name)
    recipe = default_recipe(source, input_size=record.spec.input_size)
    known = recorded_augmentation(record)
    return recipe if known is None else dataclasses.replace(recipe, augmentation=known)


def show_report(report: CompressionReport, out: Path, *, as_json: bool, skipped: int) -> None:
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
                    "skipped": skipped,
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
