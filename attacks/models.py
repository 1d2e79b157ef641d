"""Attacks by model files. The ``.sqz`` files are those of spec/vectors."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from attack import PROOF, Attack

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
_DOUBLINGS = 60
"""Each level of the hash bomb doubles the time: 2^60 steps never end."""


def attacks() -> list[Attack]:
    """Return all attacks by model files."""
    return [*_sqz(), *_pth(), *_others()]


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


def _pth() -> list[Attack]:
    return [
        Attack(
            name="pth: code in the pickle",
            goal="execution of a command when the weights are loaded",
            defence="torch's restricted unpickler loads tensors only",
            make=_pth_with_code(bare=False),
            message="may be an attack",
        ),
        Attack(
            name="pth: code in a bare pickle",
            goal="the same, in the old file format without an archive",
            defence="the same restricted unpickler loads it",
            make=_pth_with_code(bare=True),
            message="may be an attack",
        ),
        Attack(
            name="pth: compressed archive",
            goal="memory exhaustion by an archive that inflates a thousandfold",
            defence="torch never compresses; a compressed archive is refused before it is inflated",
            make=_zip_bomb,
            message="compressed archive",
        ),
        Attack(
            name="pth: key that takes hours to hash",
            goal="exhaustion of time by a tuple of tuples of tuples, each used twice in the next",
            defence="tuples that are used in many places are counted before the pickle is loaded",
            make=_hash_bomb,
            message="may be an attack",
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


class _Code:
    """An object whose unpickling calls a function."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.proof}'",)


def _pth_with_code(*, bare: bool) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = folder / "model.pth"
        evil = pickle.dumps({"features.0.weight": _Code(folder / PROOF)}, protocol=2)
        path.write_bytes(evil if bare else _archive(evil))
        return ["info", str(path)]

    return make


def _archive(pickled: bytes, *, padding: int = 0) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if padding else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/version", b"3\n")
        if padding:
            archive.writestr("model/data/0", bytes(padding))
    return buffer.getvalue()


def _zip_bomb(folder: Path) -> list[str]:
    path = folder / "model.pth"
    path.write_bytes(_archive(pickle.dumps({}, protocol=2), padding=1 << 28))
    return ["info", str(path)]


def _hash_bomb(folder: Path) -> list[str]:
    # A dictionary whose key is the empty tuple (memo 0), doubled: drop, get, get, pair, put.
    key = b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(_DOUBLINGS))
    path = folder / "model.pth"
    path.write_bytes(_archive(b"\x80\x02}(" + key + b"K\x01u."))
    return ["info", str(path)]


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
