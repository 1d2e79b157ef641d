"""``squeezenet export``: a ``.sqz`` as a folder for a client in another language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from squeezenet.cli.options import JsonOption, model_argument
from squeezenet.cli.output import print_json
from squeezenet.codec.model_kinds import ModelKind, model_kind
from squeezenet.errors import UsageError
from squeezenet.export.c import c_project
from squeezenet.files import write_bytes_atomically


def export(
    model: Annotated[
        Path,
        Parameter(converter=model_argument, help="A .sqz file, or the word default."),
    ],
    /,
    *,
    to: Annotated[
        Literal["c"], Parameter(help="c: a folder that make, or cc *.c, compiles to a program.")
    ],
    out: Annotated[Path, Parameter(help="Folder to write; it must be new or empty.")],
    json: JsonOption = False,
) -> None:
    """Write a .sqz as C source code that compiles to a program."""
    if model_kind(model) is not ModelKind.SQZ:
        raise UsageError(f"{model}: not a .sqz file; squeezenet compress makes one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already, expected a new or empty folder")
    project = c_project(model.read_bytes(), model.name)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in project.items():
        write_bytes_atomically(out / name, text.encode())
    sizes = {name: len(text.encode()) for name, text in project.items()}
    if json:
        print_json({"out": str(out), "to": to, "files": sizes})
    else:
        print(f"{out}: {', '.join(sizes)}; build with: make -C {out}")
