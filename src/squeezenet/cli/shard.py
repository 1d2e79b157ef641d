"""``squeezenet shard``: labelled images to WebDataset tar shards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.shard import DEFAULT_SHARD_SIZE, ShardResult, index_shards
from squeezenet.api.shard import shard as write_shards
from squeezenet.cli.options import (
    JsonOption,
    ListUnusedOption,
    SeedOption,
    StrictOption,
    WorkersOption,
)
from squeezenet.cli.output import (
    make_progress,
    plain,
    print_json,
    report_notes,
    report_skipped,
    report_unused,
)
from squeezenet.cli.table import print_text
from squeezenet.errors import UsageError


def shard(
    data: Annotated[
        Path,
        Parameter(
            help="Folder of class folders, or of train/, val/ and test/ with such folders. With "
            "--index: a folder of tars."
        ),
    ],
    out: Annotated[
        Path | None,
        Parameter(
            help="Folder for the shards: new, empty, or of the same command, which goes on there."
        ),
    ] = None,
    /,
    *,
    index: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Write the index for WebDataset tars that DATA has already: pictures with a .cls "
            "beside each, a class's number.",
        ),
    ] = False,
    classes: Annotated[
        str | None,
        Parameter(help="With --index: names of the classes; see squeezenet eval --help."),
    ] = None,
    shard_size: Annotated[
        str, Parameter(help="About the bytes of a shard: 100M, 1G.")
    ] = DEFAULT_SHARD_SIZE,
    seed: SeedOption = 0,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    list_unused: ListUnusedOption = False,
    json: JsonOption = False,
) -> None:
    """Write labelled images as WebDataset tar shards, for sets of any size."""
    progress = make_progress()
    if index:
        if out is not None:
            raise UsageError(f"--index writes beside the tars of {data}; leave {out} out")
        result = index_shards(data, classes=classes, workers=workers, progress=progress)
    else:
        if out is None:
            raise UsageError("OUT is missing; expected the folder for the shards")
        if classes is not None:
            raise UsageError("--classes is for --index; the folders name the classes")
        result = write_shards(
            data,
            out,
            shard_size=shard_size,
            seed=seed,
            workers=workers,
            strict=strict,
            progress=progress,
        )
    if index:
        report_notes(result.findings, progress)
    else:
        report_skipped(result.skipped, progress)
    report_unused(result.findings, progress, list_all=list_unused)
    _show(result, as_json=json)


def _show(result: ShardResult, *, as_json: bool) -> None:
    if as_json:
        fields = dataclasses.asdict(result)
        del fields["findings"]
        fields |= {"out": str(result.out), "not_used": result.findings.counts}
        print_json(plain(fields))
        return
    parts = f" in {', '.join(f'{part}/' for part in result.parts)}" if result.parts else ""
    print_text(
        f"{result.out}: {result.images:,} images of {result.classes:,} classes in "
        f"{result.shards:,} shards{parts}, {result.bytes:,} bytes"
    )
