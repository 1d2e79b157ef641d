"""``squeezenet convert``: from one kind of model file to another. Only ``--half`` loses bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.class_names import class_labels
from squeezenet.arch.class_labels import ClassLabels
from squeezenet.arch.record import with_labels
from squeezenet.cli.options import ArchOption, ClassesOption, JsonOption, ModelArgument
from squeezenet.cli.output import make_progress, print_json
from squeezenet.codec.container import EntropyCoder, encode
from squeezenet.codec.model_kinds import find_model, read_compressed
from squeezenet.codec.types import CompressedModel
from squeezenet.errors import UsageError
from squeezenet.extras import require_extra
from squeezenet.files import require_output, write_bytes_atomically
from squeezenet.progress import Progress


def convert(
    model: ModelArgument,
    out: Annotated[
        Path,
        Parameter(
            help="File to write; it ends in .sqz or .safetensors. A conversion that would change "
            "weights is refused."
        ),
    ],
    /,
    *,
    half: Annotated[
        bool,
        Parameter(
            negative=(), help="Round convolution weights to 16-bit floats (.safetensors only)."
        ),
    ] = False,
    coder: Annotated[
        EntropyCoder | None,
        Parameter(help="Entropy coder of a .sqz: range (default), or the paper's huffman."),
    ] = None,
    classes: ClassesOption = None,
    arch: ArchOption = None,
    json: JsonOption = False,
) -> None:
    """Convert a model file without loss, or to 16-bit weights."""
    require_output(out, model, (".sqz", ".safetensors"))
    if half and out.suffix != ".safetensors":
        raise UsageError(f"--half is for .safetensors; {out.name} holds integers or codebooks")
    if coder is not None and out.suffix != ".sqz":
        raise UsageError(f"--coder is for .sqz; {out.name} has no entropy coder")
    source = find_model(model)
    labels = class_labels(classes)
    progress = make_progress()
    if out.suffix == ".sqz":
        if source.kind.is_compressed:
            compressed = read_compressed(source)
            if labels is not None:
                record = with_labels(compressed.record, labels, str(model))
                compressed = dataclasses.replace(compressed, record=record)
        else:
            compressed = _with_codebooks(model, arch, labels, progress)
        write_bytes_atomically(out, encode(compressed, coder or "range"))
    else:
        require_extra("train", "writing a .safetensors")
        from squeezenet.model.load import load_model
        from squeezenet.model.safetensors_file import save_safetensors, with_half_weights

        loaded = load_model(model, arch, labels=labels, progress=progress)
        state = loaded.module.state_dict()
        save_safetensors(out, loaded.record, with_half_weights(state) if half else state)
    file_bytes = out.stat().st_size
    if json:
        print_json(
            {"out": str(out), "file_bytes": file_bytes, "source_kind": source.argument.value}
        )
    else:
        print(f"{out}: {file_bytes:,} bytes")


def _with_codebooks(
    model: Path, arch: str | None, labels: ClassLabels | None, progress: Progress
) -> CompressedModel:
    require_extra("train", "reading this kind of model")
    from squeezenet.model.load import load_model, to_compressed

    loaded = load_model(model, arch, labels=labels, progress=progress)
    return to_compressed(loaded, str(model))
