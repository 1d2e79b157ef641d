"""A network run in Python's own floats, without NumPy: the logits of the vectors.

Sums run in one order everywhere, so that the same digits come out on every machine.
Legend: a tensor is a list of channels, a channel a list of rows.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from squeezenet.arch.graph import (
    Add,
    Conv,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    Tensor,
    build_graph,
)
from squeezenet.codec.types import CompressedModel

Planes: TypeAlias = list[list[list[float]]]


def pixel(channel: int, y: int, x: int) -> int:
    """Return the fixed picture: 0 to 255."""
    return (37 * channel + 101 * y + 59 * x + 17 * x * y + 11) % 256


def logits(model: CompressedModel) -> list[float]:
    """Run a model on the fixed picture."""
    graph = build_graph(model.record.spec)
    prep = model.record.preprocessing
    layers = {layer.name: layer for layer in model.layers}
    first = graph.tensors[graph.input]
    tensors = {name: _zeros(tensor) for name, tensor in graph.tensors.items()}
    tensors[graph.input] = [
        [
            [(pixel(c, y, x) - prep.mean[c]) / prep.std[c] for x in range(first.width)]
            for y in range(first.height)
        ]
        for c in range(first.channels)
    ]
    for op in graph.operations:
        source, target = tensors[op.source], tensors[op.target]
        if isinstance(op, Conv):
            layer = layers[op.name]
            _convolve(op, source, layer.weights.dequantize().tolist(), layer.bias_O, target)
            continue
        for c, plane in enumerate(target):
            for y, row in enumerate(plane):
                for x in range(len(row)):
                    if isinstance(op, MaxPool):
                        row[x] = max(
                            value
                            for line in source[c][op.stride * y : op.stride * y + op.kernel]
                            for value in line[op.stride * x : op.stride * x + op.kernel]
                        )
                    elif isinstance(op, Add):
                        row[x] = source[c][y][x] + tensors[op.other][c][y][x]
                    elif isinstance(op, GlobalAveragePool):
                        values = [value for line in source[c] for value in line]
                        row[x] = math.fsum(values) / len(values)
                    else:
                        row[x] = _normalised(op, source, c, y, x)
    return [plane[0][0] for plane in tensors[graph.output]]


def _zeros(tensor: Tensor) -> Planes:
    return [[[0.0] * tensor.width for _ in range(tensor.height)] for _ in range(tensor.channels)]


def _convolve(op: Conv, source: Planes, w_OIHW: list[Planes], bias_O, target: Planes) -> None:  # type: ignore[no-untyped-def]
    num_in, num_out = op.in_channels // op.groups, op.out_channels // op.groups
    height, width = len(source[0]), len(source[0][0])
    for o, w_IHW in enumerate(w_OIHW):
        inputs = source[o // num_out * num_in :][:num_in]
        for y, row in enumerate(target[op.target_start + o]):
            for x in range(len(row)):
                top, left = op.stride * y - op.padding, op.stride * x - op.padding
                value = float(bias_O[o]) + math.fsum(
                    weight * plane[top + dy][left + dx]
                    for plane, w_HW in zip(inputs, w_IHW, strict=True)
                    for dy, w_W in enumerate(w_HW)
                    for dx, weight in enumerate(w_W)
                    if weight and 0 <= top + dy < height and 0 <= left + dx < width
                )
                row[x] = max(0.0, value) if op.relu else value


def _normalised(op: LocalResponseNorm, source: Planes, c: int, y: int, x: int) -> float:
    near = source[max(0, c - op.size // 2) : c + op.size // 2 + 1]
    squares = math.fsum(plane[y][x] ** 2 for plane in near)
    return source[c][y][x] / (1 + op.alpha / op.size * squares) ** op.beta
