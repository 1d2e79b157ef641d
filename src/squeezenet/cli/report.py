"""``squeezenet report``: what a model gets right and wrong: a page, pictures, a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.open_model import open_model
from squeezenet.api.options import require_workers
from squeezenet.api.report import draw_report
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
from squeezenet.data.locations import data_name
from squeezenet.data.sources import evaluation_title, open_evaluation_data
from squeezenet.extras import require_extra
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits


def report(
    model: ModelArgument,
    data: Annotated[
        str,
        Parameter(
            help="Folder of class folders, or of train/, val/ and test/ with such folders. Or "
            "shards of either, in a folder or at a URL, or the word digits."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the page, its pictures and the card: new, empty, or of an earlier "
            "report."
        ),
    ],
    split: SplitOption = None,
    compression: Annotated[
        Path | None,
        Parameter(
            help="What squeezenet compress --json printed for MODEL: adds its stages, and bytes "
            "against divergence."
        ),
    ] = None,
    classes: ClassesOption = None,
    arch: ArchOption = None,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    list_unused: ListUnusedOption = False,
    json: JsonOption = False,
) -> None:
    """Write a page of curves, mistakes and layers, and a model card."""
    require_extra("report", "drawing a report")
    from squeezenet.report.write import PAGE

    require_workers(workers)
    limits = parse_limits(max_pixels, max_memory)
    progress = make_progress()
    opened = open_model(model, arch, classes=classes, progress=progress)
    images = open_evaluation_data(data, opened.record, split, limits=limits)
    report_notes(images.findings, progress)
    bad = bad_images(progress, strict=strict)
    about = f"from {evaluation_title(data, split)}"
    measured, paths = draw_report(
        opened,
        images,
        out,
        about,
        dataset=data_name(data),
        history=compression,
        workers=workers,
        bad=bad,
        progress=progress,
    )
    report_skipped(bad.count, progress)
    report_unused(images.findings, progress, list_all=list_unused)
    if json:
        files = [str(path) for path in paths]
        print_json(plain({**vars(measured), "not_used": images.findings.counts, "files": files}))
        return
    page = next(path for path in paths if path.name == PAGE)
    print_text(f"top-1 {measured.top1:.1f}% on {measured.images} images; {page}")
