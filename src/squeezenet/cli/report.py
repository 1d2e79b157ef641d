"""``squeezenet report``: what a model gets right and wrong, as pictures and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.open_model import open_model
from squeezenet.api.options import require_workers
from squeezenet.api.report import draw_report
from squeezenet.cli.options import (
    DIGITS,
    ArchOption,
    JsonOption,
    ModelArgument,
    SplitOption,
    StrictOption,
    WorkersOption,
    open_eval_images,
)
from squeezenet.cli.output import bad_images, make_progress, plain, print_json, report_skipped
from squeezenet.cli.table import print_text
from squeezenet.extras import require_extra
from squeezenet.images.sets import eval_split


def report(
    model: ModelArgument,
    data: Annotated[
        str,
        Parameter(
            help="Folder of class folders, or of train/, val/ and test/ with such folders. Or the "
            "word digits."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the pictures and the card: new, empty, or of an earlier report."
        ),
    ],
    split: SplitOption = None,
    arch: ArchOption = None,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Draw curves, confusion matrix, mistakes; write a model card."""
    require_extra("report", "drawing a report")
    require_workers(workers)
    progress = make_progress()
    opened = open_model(model, arch)
    images = open_eval_images(data, opened.record, split)
    bad = bad_images(progress, strict=strict)
    about = f"from {Path(data).resolve().name}"
    if data != DIGITS and (chosen := eval_split(Path(data), split)):
        about += f", its part {chosen}/"
    measured, paths = draw_report(
        opened, images, out, about, workers=workers, bad=bad, progress=progress
    )
    report_skipped(bad.count, progress)
    if json:
        print_json(plain({**vars(measured), "files": [str(path) for path in paths]}))
        return
    print_text(f"top-1 {measured.top1:.1f}% on {measured.images} images; {paths[0]}")
