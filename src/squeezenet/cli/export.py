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
from squeezenet.extras import require_extra
from squeezenet.output_folder import SUMS, OutputFolder


def export(
    model: Annotated[
        Path,
        Parameter(converter=model_argument, help="A .sqz file, or the word default."),
    ],
    /,
    *,
    to: Annotated[
        Literal["c", "web", "onnx"],
        Parameter(help="; ".join(f"{name}: {target.about}" for name, target in TARGETS.items())),
    ],
    out: Annotated[Path, Parameter(help="Folder to write: new, empty, or of an earlier export.")],
    preprocessing: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Put resize, crop and normalisation into the graph, which then takes pictures of "
            "any size (onnx only).",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a .sqz for other clients: C source, a web page, ONNX."""
    if model_kind(model) is not ModelKind.SQZ:
        raise UsageError(f"{model}: not a .sqz file; squeezenet compress makes one")
    target = TARGETS[to]
    make = target.make
    if preprocessing:
        if target.make_with_preprocessing is None:
            raise UsageError(f"--preprocessing is for --to onnx; --to {to} always has it inside")
        make = target.make_with_preprocessing
    if target.extra is not None:
        require_extra(target.extra, f"export --to {to}")
    folder = OutputFolder(out)
    folder.check(target.file_names)
    files = make(model.read_bytes(), model.name)
    for name in target.file_names:
        if name not in files and (out / name).exists():
            raise UsageError(
                f"{out / name}: is of an earlier export, and this one makes no such file; remove "
                "it or choose another --out"
            )
    paths = folder.write(files)
    sizes = {path.name: path.stat().st_size for path in (*paths, out / SUMS)}
    if json:
        print_json({"out": str(out), "to": to, "files": sizes})
    else:
        note = target.note(files)
        steps = f"{f'{note}; ' if note else ''}{target.next_step.format(out=out)}"
        print(f"{out}: {', '.join(sizes)}; {steps}")
