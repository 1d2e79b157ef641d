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
        Attack(
            name="sqz: class that is a formula",
            goal="a command of a spreadsheet that opens the predictions, by the name of a class",
            defence="a cell of CSV that begins as a formula gets an apostrophe before it",
            make=_formula,
            message=",\"'=HYPERLINK(",
            exit_code=0,
        ),
        Attack(
            name="sqz: 65,536 classes",
            goal="memory exhaustion by a confusion matrix of 32 GB from a file of 113 KB",
            defence="only pairs of classes that occur are counted; the classes with most mistakes "
            "are drawn",
            make=_many_classes,
            message="top-1",
            exit_code=0,
        ),
        Attack(
            name="sqz: weights that take no bytes",
            goal="memory exhaustion by 116 million weights in a file of 47 KB",
            defence="weights are unpacked to a byte each, once at a time, and measured in blocks",
            make=_many_weights,
            message="116,661,607",
            exit_code=0,
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


def _formula(folder: Path) -> list[str]:
    import dataclasses

    from squeezenet.codec.container import encode, read_sqz

    model = read_sqz(VECTORS / "accept" / "folded.sqz")
    names = tuple(f'=HYPERLINK("x{i}","y")' for i in range(model.record.spec.num_classes))
    record = dataclasses.replace(model.record, class_names=names, class_ids=())
    path = folder / "model.sqz"
    path.write_bytes(encode(dataclasses.replace(model, record=record)))
    return ["predict", str(path), str(_picture(folder)), "--format", "csv"]


def _many_classes(folder: Path) -> list[str]:
    from PIL import Image

    path = folder / "model.sqz"
    path.write_bytes(zero_model(width=1, num_classes=1 << 16))
    for name in ("c0", "c1"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 80 * i).save(folder / "data" / name / f"{i}.png")
    return ["report", str(path), str(folder / "data"), "--out", str(folder / "report")]


def _many_weights(folder: Path) -> list[str]:
    path = folder / "model.sqz"
    path.write_bytes(zero_model(width=3600, num_classes=2))
    return ["info", str(path)]


def zero_model(*, width: int, num_classes: int) -> bytes:
    """Return a .sqz whose weights are all zero, so that it is as small as a file can be.

    Its one Fire module has a 3x3 convolution of ``width`` squared times 9 weights.
    """
    import numpy as np

    from squeezenet.arch.graph import build_graph
    from squeezenet.arch.preprocessing import default_preprocessing
    from squeezenet.arch.quantized_tensors import scaled_tensors
    from squeezenet.arch.record import ModelRecord
    from squeezenet.arch.spec import ConvSpec, FireSpec, SqueezeNetSpec
    from squeezenet.codec.container import encode
    from squeezenet.codec.types import (
        ActivationScale,
        CompressedLayer,
        CompressedModel,
        LevelWeights,
    )

    spec = SqueezeNetSpec(
        name="zeros",
        stem=ConvSpec(out_channels=1, kernel=1),
        fires=(FireSpec(s1x1=width, e1x1=1, e3x3=width),),
        pools=(),
        num_classes=num_classes,
        input_channels=1,
        input_size=(1, 1),
    )
    record = ModelRecord(
        spec=spec,
        preprocessing=default_preprocessing(spec),
        class_names=tuple(f"c{i}" for i in range(num_classes)),
    )
    graph = build_graph(spec)
    layers = []
    for conv in graph.convs:
        weights = LevelWeights(
            levels_OIHW=np.zeros(conv.weight_shape, np.int8),
            scales_O=np.full(conv.out_channels, 2.0**-20, np.float32),
        )
        bias_O = np.zeros(conv.out_channels, np.float32)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
    scales = {name: ActivationScale(scale=1.0, zero_point=0) for name in scaled_tensors(graph)}
    return encode(CompressedModel(record=record, layers=tuple(layers), activations=scales))


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
