"""``squeezenet fetch``: download weights that others published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.cli.options import JsonOption
from squeezenet.cli.output import make_progress, print_json
from squeezenet.cli.table import Column, print_table
from squeezenet.download import cache_folder
from squeezenet.model.published import PUBLISHED, published
from squeezenet.model.published import fetch as fetch_published

_COLUMNS = (
    Column("name"),
    Column("what", rank=1, shorten="end"),
    Column("URL", rank=2, shorten="end", min_width=24, optional=True),
)


def fetch(
    name: Annotated[
        str | None, Parameter(help="Which weights; without a name, they are listed.")
    ] = None,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            help="Folder for the file (default: ~/.cache/squeezenet, where train --from NAME "
            "looks)."
        ),
    ] = None,
    mirror: Annotated[
        str | None, Parameter(help="URL of a folder that has the file under its own name.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List published weights; download and verify them by name."""
    if name is None:
        rows = [(key, item.about, item.url) for key, item in PUBLISHED.items()]
        if json:
            print_json({key: {"about": about, "url": url} for key, about, url in rows})
        else:
            print_table("", _COLUMNS, rows)
        return
    weights = published(name)
    path = fetch_published(weights, out or cache_folder(), mirror=mirror, progress=make_progress())
    if json:
        print_json({"path": str(path), "file_bytes": path.stat().st_size})
    else:
        print(path)
