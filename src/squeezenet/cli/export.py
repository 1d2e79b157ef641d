"""``squeezenet export``: a ``.sqz`` as a folder for a client in another language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from squeezenet.cli.options import JsonOption, model_argument
from squeezenet.cli.output import print_json
from squeezenet.codec.model_kinds import ModelKind, model_kind
from squeezenet.errors import UsageError
from squeezenet.export.c import C_FILES, c_project
from squeezenet.output_folder import SUMS, OutputFolder


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
    out: Annotated[Path, Parameter(help="Folder to write: new, empty, or of an earlier export.")],
    json: JsonOption = False,
) -> None:
    """Write a .sqz as C source code that compiles to a program."""
    if model_kind(model) is not ModelKind.SQZ:
        raise UsageError(f"{model}: not a .sqz file; squeezenet compress makes one")
    folder = OutputFolder(out)
    folder.check(C_FILES)
    project = c_project(model.read_bytes(), model.name)
    paths = folder.write({name: text.encode() for name, text in project.items()})
    sizes = {path.name: path.stat().st_size for path in (*paths, out / SUMS)}
    if json:
        print_json({"out": str(out), "to": to, "files": sizes})
    else:
        print(f"{out}: {', '.join(sizes)}; build with: make -C {out}")
