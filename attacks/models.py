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
