"""Small files and models at the limits of the runtime: what it must refuse, and what it must run.

The files are written number by number by ``spec/tools/stream.py``, which checks nothing.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import ConvSpec, FireSpec, HeadSpec, SqueezeNetSpec
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.types import (
    ActivationScale,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
)
from tests.conftest import REPOSITORY
from tests.runtime.networks import network_of
from tests.runtime.targets.tools import load_program

stream: Any = load_program(REPOSITORY / "spec" / "tools" / "stream.py")

CONV, POOL, ADD, AVERAGE, NORM = range(1, 6)
LIMIT, MALFORMED, FLOAT_ONLY = "limit", "malformed", "float only"
Shape = tuple[int, int, int]
"""Channels, height, width of a tensor."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refused:
    """A file, and the errors of the reader and of ``sqz_load``; None if one accepts it."""

    name: str
    data: bytes
    reader: str | None
    client: str
    threads: int = 1


def conv(
    source: int,
    target: int,
    out: int,
    *,
    start: int = 0,
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> list[int]:
    """The code and the counts of a convolution with ReLU."""
    return [CONV, source, target, start, out, *kernel, stride, padding, groups, 1]


def file_of(
    tensors: list[Shape],
    operations: list[list[int]],
    *,
    num_scales: int = 0,
    layers: list[stream.Layer] | None = None,
) -> stream.File:
    """A file of a graph, with the header's numbers, scales of 1, and weights that are zero bytes
    unless ``layers`` are given."""
    num_weights = largest = 0
    for op in operations:
        if op[0] == CONV:
            channel = op[5] * op[6] * (tensors[op[1]][0] // op[9])
            largest = max(largest, channel)
            num_weights += channel * op[4]
    channels, height, width = tensors[0]
    prep = struct.pack("<BHHH", channels == 3, max(height, width), height, width)
    body = bytes(num_weights // 4096 + 8) if layers is None else stream.weights(layers)
    graph = stream.Network(tensors=[list(shape) for shape in tensors], operations=operations)
    sections = [
        stream.Section(kind=stream.GRAPH, body=graph.to_bytes()),
        stream.Section(kind=stream.INPUT, body=prep + struct.pack("<ii", 0, 65536) * channels),
        stream.Section(kind=stream.WEIGHTS, body=b"\1" + body),
        stream.Section(kind=stream.LABELS, body=b"\0" + stream.text(b"0\n1")),
        stream.Section(kind=stream.RECORD, body=stream.text(b"{}")),
    ]
    if num_scales:
        one = struct.pack("<HB", 0x3F80, 0)
        sections.append(stream.Section(kind=stream.ACTIVATIONS, body=num_scales * one))
    peak = _peak_activations(tensors, operations)
    return stream.File(needs=[num_weights, largest, peak], sections=sections)


def _peak_activations(tensors: list[Shape], operations: list[list[int]]) -> int:
    first, last = {0: 0}, {0: 0}
    for i, op in enumerate(operations):
        for t in (op[1], op[2], *op[3:4] * (op[0] == ADD)):
            first.setdefault(t, i)
            last[t] = i
    return max(
        sum(math.prod(tensors[t]) for t in first if first[t] <= i <= last[t])
        for i in range(len(operations))
    )


def refused() -> Iterator[Refused]:
    """Everything that the runtime must refuse, besides the golden files."""
    yield from _not_integer()
    yield from _beyond_limits()
    yield from _malformed()


def _client(name: str, error: str, file: stream.File, threads: int = 1) -> Refused:
    """A file that the reader accepts up to its weights, and ``sqz_load`` does not."""
    return Refused(name=name, data=file.to_bytes(), reader=MALFORMED, client=error, threads=threads)


def _not_integer() -> Iterator[Refused]:
    """Good graphs, but not those of spec/INTEGER.md, "Which files"."""
    one, two = (1, 1, 1), (2, 1, 1)
    head, average = conv(1, 2, 2), [AVERAGE, 2, 3]
    yield _client("no average pool", FLOAT_ONLY, file_of([one, two], [conv(0, 1, 2)], num_scales=1))
    yield _client(
        "response norm",
        FLOAT_ONLY,
        file_of(
            [one, two, two, two, two],
            [conv(0, 1, 2), [NORM, 1, 2, 1], conv(2, 3, 2), [AVERAGE, 3, 4]],
            num_scales=1,
        ),
    )
    yield _client(
        "max pool of the input",
        FLOAT_ONLY,
        file_of([one, one, two, two], [[POOL, 0, 1, 1, 1], head, average], num_scales=1),
    )
    yield _client(
        "head in two convolutions",
        FLOAT_ONLY,
        file_of(
            [one, two, two],
            [conv(0, 1, 1), conv(0, 1, 1, start=1), [AVERAGE, 1, 2]],
            num_scales=1,
        ),
    )
    alone = file_of([one, one], [[AVERAGE, 0, 1]], num_scales=1, layers=[])
    yield Refused(name="average pool alone", data=alone.to_bytes(), reader=None, client=FLOAT_ONLY)


def _beyond_limits() -> Iterator[Refused]:
    one, two, square = (1, 1, 1), (2, 1, 1), (1, 32, 32)
    yield _client(
        "max pool of 32",
        LIMIT,
        file_of(
            [square, square, one, two, two],
            [conv(0, 1, 1), [POOL, 1, 2, 32, 1], conv(2, 3, 2), [AVERAGE, 3, 4]],
            num_scales=1,
        ),
    )
    chain = [conv(i, i + 1, 1) for i in range(255)]
    yield _client(
        "257 tensors",
        LIMIT,
        file_of([one] * 257, [*chain, [AVERAGE, 255, 256]], num_scales=254),
    )
    slices = [conv(0, 1, 1, start=i) for i in range(256)]
    yield _client(
        "258 operations",
        LIMIT,
        file_of(
            [one, (256, 1, 1), two, two], [*slices, conv(1, 2, 2), [AVERAGE, 2, 3]], num_scales=1
        ),
    )
    for name, inputs, kernel, out in (
        ("kernel", 1, 1 << 14, 1),
        ("weights of a channel", 4, 1 << 13, 1),
        ("weights", 1, 1 << 13, 4),
    ):
        tensors = [one, (inputs, 1, 1), (out, 2, 2), (out, 1, 1)]
        large = conv(1, 2, out, kernel=(kernel, kernel), padding=kernel // 2)
        file = file_of(tensors, [conv(0, 1, inputs), large, [AVERAGE, 2, 3]], num_scales=1)
        file.needs[:2] = [1, 1]  # within what sqz_open allows
        file.section(stream.WEIGHTS).body = b"\1\0"
        yield Refused(name=f"{name} beyond 2^27", data=file.to_bytes(), reader=LIMIT, client=LIMIT)
    wide = 65535
    yield _client(
        "rings of 64 threads beyond 2^32 bytes",
        LIMIT,
        file_of(
            [(1, 31, wide), (64, 31, wide), (64, 1, wide - 30), (2, 1, wide - 30), two],
            [conv(0, 1, 64), [POOL, 1, 2, 31, 1], conv(2, 3, 2), [AVERAGE, 3, 4]],
            num_scales=1,
        ),
        threads=64,
    )
    # Five tensors of 1 position with borders of 8,000, all alive at once.
    first = [conv(0, i, 1) for i in range(1, 6)]
    second = [conv(i, 6, 1, start=i - 1, padding=8000, stride=20000) for i in range(1, 6)]
    yield _client(
        "an arena beyond 2^32 bytes",
        LIMIT,
        file_of(
            [one, *5 * [one], (5, 1, 1), two, two],
            [*first, *second, conv(6, 7, 2), [AVERAGE, 7, 8]],
            num_scales=6,
        ),
    )


def _malformed() -> Iterator[Refused]:
    one, two, seven = (1, 1, 1), (2, 1, 1), (1, 7, 7)

    def both(name: str, file: stream.File) -> Refused:
        return Refused(name=name, data=file.to_bytes(), reader=MALFORMED, client=MALFORMED)

    groups = [conv(0, 1, 2), conv(1, 2, 3, groups=2), [AVERAGE, 2, 3]]
    yield both("outputs not in groups", file_of([one, two, (3, 1, 1), (3, 1, 1)], groups))
    # A last window would begin inside, but it would not hang over: the one before ends at the edge.
    pool = [conv(0, 1, 1), [POOL, 1, 2, 3, 2], [AVERAGE, 2, 3]]
    yield both("a window too many", file_of([seven, seven, (1, 4, 4), one], pool))
    cut = file_of([one, one, one], [conv(0, 1, 1), [POOL, 1, 2, 1, 1]])
    cut.section(stream.GRAPH).body = cut.section(stream.GRAPH).body[:-1]
    yield both("GRAPH ends in a pool", cut)
    short = file_of([one, one], [conv(0, 1, 1)])
    short.section(stream.INPUT).body = b"\0"
    yield both("INPUT of a byte", short)
    none = file_of([one, one], [conv(0, 1, 1)])
    none.section(stream.GRAPH).body = b"\0\1"
    yield both("no tensors", none)
    channel = stream.Channel(row=[1], scale=4000, bias=-(1 << 24) - 1)
    layer = stream.Layer(inputs=1, kernel=(1, 1), channels=[channel])
    yield both("bias below -2^24", file_of([one, one], [conv(0, 1, 1)], layers=[layer]))


def extreme_models() -> dict[str, CompressedModel]:
    """Models that the runtime must run as the oracle does, with numbers at their limits."""
    return {
        "260 groups of inputs that are all zero": _zero_groups(),
        "logits beyond 32 bits": _clamped_logits(),
        "a multiplier just below 1": _largest_multiplier(),
        "a mean above white": _bright_padding(),
    }


def _model(*, stem: int = 2, mean: float = 100.0, std: float = 50.0) -> CompressedModel:
    spec = SqueezeNetSpec(
        name="extreme",
        stem=ConvSpec(out_channels=stem, kernel=3, stride=1, padding=1),
        fires=(FireSpec(s1x1=2, e1x1=3, e3x3=2),),
        pools=(),
        head=HeadSpec(padding=0, last_relu=False, dropout=0.0),
        num_classes=3,
        input_channels=1,
        input_size=(3, 2),
    )
    prep = Preprocessing(resize=3, crop=(3, 2), channels="L", mean=(mean,), std=(std,))
    record = ModelRecord(spec=spec, preprocessing=prep, class_names=("a", "b", "c"))
    return network_of(record, np.random.default_rng(1))


def _with_layer(model: CompressedModel, index: int, **changes: object) -> CompressedModel:
    layers = list(model.layers)
    layers[index] = dataclasses.replace(layers[index], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(model, layers=tuple(layers))


def _scaled(layer: CompressedLayer, scale: float) -> LevelWeights:
    weights = layer.weights
    assert isinstance(weights, LevelWeights)
    scales_O = round_scales(np.full(len(weights.scales_O), scale))
    return dataclasses.replace(weights, scales_O=scales_O)


def _zero_groups() -> CompressedModel:
    """More groups of inputs than a count of groups_per_widening holds, which is a byte."""
    model = _model(stem=1040)
    weights = model.layers[1].weights
    assert isinstance(weights, LevelWeights)
    zero = dataclasses.replace(weights, levels_OIHW=np.zeros_like(weights.levels_OIHW))
    return _with_layer(model, 1, weights=zero)


def _clamped_logits() -> CompressedModel:
    """Biases of a million, which are 65,536 times as much in logits."""
    model = _model()
    assert model.activations is not None
    *_, step = (scale.scale for scale in model.activations.values())
    head = model.layers[-1]
    weights = _scaled(head, 0.4 * 6 / step)  # by 6 positions
    return _with_layer(
        model, -1, weights=weights, bias_O=round_biases(np.array([1e6, -1e6, 0.0]), 1.0)
    )


def _largest_multiplier() -> CompressedModel:
    """M = 65536 / 65537: m would be 32,768, and is 32,767."""
    model = _model(std=65537 / 65536)
    assert model.activations is not None
    first, *_ = model.activations
    model = _with_layer(model, 0, weights=_scaled(model.layers[0], 0.125))
    activations = {**model.activations, first: ActivationScale(scale=0.125, zero_point=0)}
    return dataclasses.replace(model, activations=activations)


def _bright_padding() -> CompressedModel:
    """A padding that would be beyond 255."""
    return _model(mean=300.0, std=1.0)
