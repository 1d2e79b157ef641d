"""``squeezenet export``: a ``.sqz`` as a folder for another kind of client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from squeezenet.cli.options import JsonOption, model_argument
from squeezenet.cli.output import print_json
from squeezenet.codec.model_kinds import ModelKind, model_kind
from squeezenet.errors import UsageError
from squeezenet.export.targets import TARGETS
from squeezenet.output_folder import SUMS, OutputFolder


def export(
    model: Annotated[
        Path,
        Parameter(converter=model_argument, help="A .sqz file, or the word default."),
    ],
    /,
    *,
    to: Annotated[
        Literal["c", "web"],
        Parameter(help="; ".join(f"{name}: {target.about}" for name, target in TARGETS.items())),
    ],
    out: Annotated[Path, Parameter(help="Folder to write: new, empty, or of an earlier export.")],
    json: JsonOption = False,
) -> None:
    """Write a .sqz for other clients: C source, a web page, ONNX."""
    if model_kind(model) is not ModelKind.SQZ:
        raise UsageError(f"{model}: not a .sqz file; squeezenet compress makes one")
    target = TARGETS[to]
    folder = OutputFolder(out)
    folder.check(target.file_names)
    paths = folder.write(target.make(model.read_bytes(), model.name))
    sizes = {path.name: path.stat().st_size for path in (*paths, out / SUMS)}
    if json:
        print_json({"out": str(out), "to": to, "files": sizes})
    else:
        print(f"{out}: {', '.join(sizes)}; {target.next_step.format(out=out)}")
