"""``squeezenet card``: the model card, with the metadata that model hubs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.open_model import open_model
from squeezenet.api.options import require_workers
from squeezenet.api.report import write_card
from squeezenet.cli.options import (
    ArchOption,
    ClassesOption,
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
    report_notes,
    report_skipped,
    report_unused,
)
from squeezenet.data.locations import data_name
from squeezenet.data.sources import evaluation_title, open_evaluation_data
from squeezenet.files import require_output, write_bytes_atomically
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.report.front_matter import UNKNOWN_LICENSE, require_dataset, require_license


def card(
    model: ModelArgument,
    data: Annotated[
        str | None,
        Parameter(
            help="Labelled images to measure on: a folder, shards, or the word digits. By default "
            "the card has what the file says was measured."
        ),
    ] = None,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(help="File to write, such as README.md. By default the card is printed."),
    ] = None,
    license: Annotated[
        str, Parameter(help="License of the weights, as model hubs name it: apache-2.0, mit, ...")
    ] = UNKNOWN_LICENSE,
    dataset: Annotated[
        str | None,
        Parameter(help="Name of the images on a model hub. By default the name of DATA."),
    ] = None,
    split: SplitOption = None,
    classes: ClassesOption = None,
    arch: ArchOption = None,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    list_unused: ListUnusedOption = False,
) -> None:
    """Write the model card, with the metadata that model hubs read."""
    require_workers(workers)
    require_license(license)
    if dataset is not None:
        require_dataset(dataset)
    if out is not None:
        require_output(out, model, (".md",))
    limits = parse_limits(max_pixels, max_memory)
    progress = make_progress()
    opened = open_model(model, arch, classes=classes, progress=progress)
    images, about = None, ""
    bad = bad_images(progress, strict=strict)
    if data is not None:
        images = open_evaluation_data(data, opened.record, split, limits=limits)
        about = f"from {evaluation_title(data, split)}"
        report_notes(images.findings, progress)
    text = write_card(
        opened,
        images,
        about,
        license=license,
        dataset=dataset or ("" if data is None else data_name(data)),
        workers=workers,
        bad=bad,
        progress=progress,
    )
    report_skipped(bad.count, progress)
    if images is not None:
        report_unused(images.findings, progress, list_all=list_unused)
    if out is not None:
        write_bytes_atomically(out, text.encode())
        return
    print(text, end="")
