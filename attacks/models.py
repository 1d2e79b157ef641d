"""Attacks by model files but ``.pth``. The ``.sqz`` files are those of spec/vectors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from attack import Attack

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"


def attacks() -> list[Attack]:
    """Return all attacks by model files but ``.pth``."""
    return [*_sqz(), *_others()]


def _sqz() -> list[Attack]:
    return [
        Attack(
            name="sqz: gigabytes",
            goal="memory exhaustion by a header that claims 4 GB",
            defence="sizes are checked against limits and the file's real length before memory is "
            "allocated",
            make=_vector("gigabytes"),
            message="claims 4294967295 bytes",
        ),
        Attack(
            name="sqz: bomb",
            goal="memory exhaustion by a few bytes that claim to unpack to many weights",
            defence="the coder needs at least one byte per 4,096 weights; a header that claims "
            "more is refused",
            make=_vector("limit_weights_a_byte"),
            message="weights, expected at most",
        ),
        Attack(
            name="sqz: endless text",
            goal="exhaustion of time and memory by a text of 4 GB from a few bytes",
            defence="a text has at most 4 MB, and a decoder stops where its bytes end",
            make=_vector("limit_record"),
            message="4294967295",
        ),
        Attack(
            name="sqz: huge network",
            goal="exhaustion of time by a small file with a network that computes for hours",
            defence="multiply-accumulates, windows and tensors have limits, which are checked "
            "before running",
            make=_vector("limit_macs", "predict"),
            message="multiply-accumulates, expected at most",
        ),
        Attack(
            name="sqz: two networks",
            goal="display of one network while another one runs",
            defence="commands that display the network derive the graph from the record and "
            "compare it; `predict`, which displays class names alone, runs the graph",
            make=_vector("record_spec"),
            message="GRAPH",
        ),
        Attack(
            name="sqz: terminal escape in a class name",
            goal="control of the terminal on which the file is displayed",
            defence="names must be printable",
            make=_vector("labels_control"),
            message="print",
        ),
        Attack(
            name="sqz: terminal escape in the provenance",
            goal="control of the terminal by a text that is rarely read",
            defence="all texts of the record must be printable",
            make=_vector("record_provenance"),
            message="print",
        ),
        Attack(
            name="sqz: name written backwards",
            goal="a disguised name by Unicode's direction marks",
            defence="direction marks are not printable characters",
            make=_vector("labels_direction"),
            message="print",
        ),
    ]


def _others() -> list[Attack]:
    return [
        Attack(
            name="safetensors: header of exabytes",
            goal="memory exhaustion by the claimed length of the header",
            defence="the length is checked against the file's own",
            make=_safetensors,
            message="model.safetensors",
        ),
        Attack(
            name="net: entry after the last weight",
            goal="a write after the end of the weights, by gaps that run past it",
            defence="the last position is checked before any weight is written",
            make=_net,
            message="after the last weight",
        ),
        Attack(
            name="any: sparse file of terabytes",
            goal="memory exhaustion by a sparse file that is read in full",
            defence="a model has at most 1 GB, and the size is checked before reading",
            make=_sparse,
            message="expected at most",
        ),
        Attack(
            name="any: output that is the input",
            goal="loss of a model by overwriting it",
            defence="input and output are compared as files, not as names",
            make=_same_file,
            message="out",
            exit_code=2,
        ),
    ]


def _vector(name: str, command: str = "info") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = str(VECTORS / "reject" / f"{name}.sqz")
        return [command, path, *([str(_picture(folder))] if command == "predict" else [])]

    return make


def _picture(folder: Path) -> Path:
    from PIL import Image

    path = folder / "picture.png"
    Image.new("L", (8, 8), 128).save(path)
    return path


def _safetensors(folder: Path) -> list[str]:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b'{"__metadata__":{}}')
    return ["info", str(path)]


def _net(folder: Path) -> list[str]:
    """Write a file of Han's layout, every layer full of entries with the largest gaps."""
    from squeezenet.arch.graph import build_graph
    from squeezenet.arch.presets import preset

    convs = build_graph(preset("squeezenet1_0")).convs
    path = folder / "model.net"
    with path.open("wb") as file:
        file.write(struct.pack("<26I", *(conv.num_weights for conv in convs)))
        for conv in convs:
            file.write(bytes(4 * (256 + conv.out_channels) + conv.num_weights))
            file.write(b"\xff" * ((conv.num_weights + 1) // 2))
    return ["info", str(path)]


def _sparse(folder: Path) -> list[str]:
    path = folder / "model.sqz"
    with path.open("wb") as file:
        file.write((VECTORS / "accept" / "smallest.sqz").read_bytes())
        file.truncate(1 << 40)
    return ["info", str(path)]


def _same_file(folder: Path) -> list[str]:
    path, other = folder / "model.sqz", folder / "out.sqz"
    path.write_bytes((VECTORS / "accept" / "smallest.sqz").read_bytes())
    other.symlink_to(path)
    return ["convert", str(path), str(other)]
