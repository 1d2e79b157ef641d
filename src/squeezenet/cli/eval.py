"""``squeezenet eval``: how often a model is right."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.open_model import OpenModel, open_model
from squeezenet.api.options import require_workers
from squeezenet.cli.options import (
    ArchOption,
    ClassesOption,
    JsonOption,
    ListUnusedOption,
    MaxMemoryOption,
    MaxPixelsOption,
    ModelArgument,
    SplitOption,
    StrictOption,
    WorkersOption,
)
from squeezenet.cli.output import (
    bad_images,
    make_progress,
    plain,
    print_json,
    report_notes,
    report_skipped,
    report_unused,
)
from squeezenet.cli.table import print_text
from squeezenet.data.sources import open_evaluation_data
from squeezenet.evaluation.calibration import (
    at_temperature,
    calibration_error,
    recorded_temperature,
)
from squeezenet.evaluation.metrics import compare, require_same_classes, score
from squeezenet.evaluation.predict import LabelledLogits, predict
from squeezenet.extras import require_extra
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches, default_workers
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.images.sets import ImageSet
from squeezenet.launch import this_launch
from squeezenet.progress import Progress


def eval_command(
    model: ModelArgument,
    data: Annotated[
        str,
        Parameter(
            help="Folder of class folders, named as the model's classes or their WordNet ids. Or "
            "a folder of train/, val/ and test/ with such folders. Or shards of either, in a "
            "folder or at a URL, or the word digits."
        ),
    ],
    /,
    *,
    against: Annotated[
        ModelArgument | None,
        Parameter(
            help="Reference model, run in float32: adds agreement, KL divergence and paired "
            "differences. It may be the same model. KL divergence is without the "
            "temperatures that compress put into files."
        ),
    ] = None,
    in_float: Annotated[
        bool,
        Parameter(name="--float", negative=(), help="Run a .sqz in float32 instead of integers."),
    ] = False,
    split: SplitOption = None,
    classes: ClassesOption = None,
    arch: ArchOption = None,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    list_unused: ListUnusedOption = False,
    json: JsonOption = False,
) -> None:
    """Measure top-1 and top-5 accuracy on labelled images."""
    require_workers(workers)
    limits = parse_limits(max_pixels, max_memory)
    progress = make_progress()
    opened = open_model(
        model,
        arch,
        in_float=in_float,
        threads=default_workers(),
        classes=classes,
        progress=progress,
    )
    other = None
    if against is not None:
        other = open_model(against, arch, in_float=True, classes=classes, progress=progress)
    if other is not None:
        require_same_classes(opened.record, other.record)
    images = open_evaluation_data(data, opened.record, split, limits=limits)
    report_notes(images.findings, progress)
    bad = bad_images(progress, strict=strict)
    models = [opened] if other is None else [opened, other]
    predicted, *reference = _predict(models, images, workers, bad, progress)
    if not this_launch().is_main:
        return
    measured = score(predicted)
    result = dataclasses.asdict(measured) | {
        "file_bytes": opened.file_bytes,
        "arithmetic": opened.arithmetic,
        "calibration_error": calibration_error(predicted),
        "temperature": recorded_temperature(opened.record),
        "not_used": images.findings.counts,
    }
    if other is not None:
        # A temperature is no loss: both are compared without theirs.
        ours, theirs = (
            at_temperature(logits, 1 / recorded_temperature(model.record))
            for logits, model in zip((predicted, *reference), models, strict=True)
        )
        comparison = compare(ours, theirs)
        result |= dataclasses.asdict(comparison)
    report_skipped(bad.count, progress)
    report_unused(images.findings, progress, list_all=list_unused)
    if json:
        print_json(plain(result))
        return
    has_top5 = len(opened.classes) > 5  # with five classes or fewer it is always 100%
    print_text(
        f"top-1 {measured.top1:.1f}%"
        + (f"  top-5 {measured.top5:.1f}%" if has_top5 else "")
        + f"  on {measured.images} images"
        f"  ({opened.file_bytes:,} bytes, {opened.arithmetic} arithmetic)"
    )
    if other is not None:
        print_text(
            f"against {against}: agreement {comparison.agreement:.1f}%, "
            f"KL {comparison.kl:.4f} nats, "
            f"top-1 {comparison.top1_difference:+.2f} ± {comparison.top1_standard_error:.2f}"
            + (
                f", top-5 {comparison.top5_difference:+.2f} ± {comparison.top5_standard_error:.2f}"
                if has_top5
                else ""
            )
        )


def _predict(
    models: list[OpenModel],
    images: ImageSet,
    workers: int | None,
    bad: BadImages,
    progress: Progress,
) -> list[LabelledLogits]:
    """Return the predictions of each model; several ranks share the images.

    What cannot be read is reported for the first model alone.
    """
    reports = [bad] + [BadImages(strict=bad.strict) for _ in models[1:]]
    if this_launch().num_ranks == 1:
        return [
            predict(
                model.network,
                model.record,
                EvalBatches(images, model.record.preprocessing, workers=workers, bad=report),
                progress=progress,
            )
            for model, report in zip(models, reports, strict=True)
        ]
    require_extra("train", "evaluation by several processes")
    import torch

    from squeezenet.train.distributed.evaluation import batches_of_rank, predict_on_ranks
    from squeezenet.train.distributed.group import joined_ranks

    with joined_ranks(torch.device("cpu")) as ranks:
        found = [
            predict_on_ranks(
                model.network,
                model.record,
                batches_of_rank(
                    images, model.record.preprocessing, workers=workers, bad=report, ranks=ranks
                ),
                ranks,
                progress=progress,
            )
            for model, report in zip(models, reports, strict=True)
        ]
        ranks.collect(bad)
    return found
