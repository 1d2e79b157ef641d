"""The exact graph: spec/INTEGER.md, clause by clause, by float32 operations on whole numbers.

``int8.onnx`` rounds a sum to a byte in one step, as engines do, where spec/INTEGER.md has two. A
byte that differs by one in an early layer is enough to change some predictions. This graph has both
steps, so its logits are those of all our clients. Its sums are whole numbers below 2^24, in units
of a power of two, which float32 holds exactly. So any engine that computes in true float32 gives
them, in any order of sums. It is slower than both other graphs.

A tensor's value is byte - zero point, so that a convolution pads with 0.

Legend: N images; C channels, H W height and width; O output channels, I input channels of a group;
K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from squeezenet.arch.graph import Add, Conv, GlobalAveragePool, MaxPool, build_graph
from squeezenet.arch.quantized_tensors import find_head
from squeezenet.codec.types import CompressedModel
from squeezenet.errors import LimitError
from squeezenet.export.onnx.builder import (
    INPUT,
    LOGITS,
    OnnxBuilder,
    conv_attributes,
    pool_attributes,
    writers,
)
from squeezenet.reference.integer_parameters import integer_parameters

_MAX_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""
_FIXED_BITS = 16
_BYTE_BITS = 15
"""Fractional bits of A, R1, R2 and the logits, and of m: spec/INTEGER.md."""


def write_exact_graph(builder: OnnxBuilder, model: CompressedModel) -> None:
    """Append the network from ``input``, float32 (N, C, H, W), to ``logits``, float32 (N, K).

    Raises:
        FloatOnlyError, LimitError: integer clients do not run the model, or a sum may be beyond
            2^24.
    """
    _ExactWriter(builder, model).write()


class _ExactWriter:
    def __init__(self, builder: OnnxBuilder, model: CompressedModel) -> None:
        self._builder, self._model = builder, model
        self._graph = build_graph(model.record.spec)
        self._head = find_head(self._graph)
        self._parameters = integer_parameters(model)

    def write(self) -> None:
        graph, node = self._graph, self._builder.node
        for op in graph.operations:
            if isinstance(op, Conv):
                total = self._accumulate(op)
                if op is self._head:
                    self._write_head(op, total)
                else:
                    self._write_bytes(op, total)
            elif isinstance(op, MaxPool):
                node("MaxPool", [op.source], op.target, **pool_attributes(graph, op))
            elif isinstance(op, Add):
                self._write_add(op)
            else:
                assert isinstance(op, GlobalAveragePool)  # it is part of the head

    def _accumulate(self, op: Conv) -> str:
        """Compute (acc + 2^(s - 1)) / 2^s, of the head acc itself."""
        conv = self._parameters.convs[op.name]
        levels_OIHW = conv.levels_OIHW.astype(np.int64)
        if op.source == self._graph.input:
            source, zero_I = self._input_bytes(), self._parameters.input.padding_C
        else:
            source, zero_I = op.source, self._parameters.padding[op.source]
        # The convolution sees byte - zero point, so B gets zero point * level back.
        num_in = levels_OIHW.shape[1]
        zeros_C = np.broadcast_to(np.array(zero_I, np.int64), (op.in_channels,))
        zeros_OI = zeros_C.reshape(op.groups, num_in).repeat(op.out_channels // op.groups, axis=0)
        bias_O = conv.bias_O + (levels_OIHW.sum(axis=(2, 3)) * zeros_OI).sum(axis=1)
        largest_O = 255 * np.abs(levels_OIHW).sum(axis=(1, 2, 3)) + np.abs(bias_O)
        shift_O = np.zeros_like(conv.shift_O) if op is self._head else conv.shift_O
        half_O = (1 << shift_O) >> 1
        if (largest_O + half_O).max() >= _MAX_EXACT:
            raise LimitError(f"{op.name}: sums reach {largest_O.max()}, more than float32 holds")
        levels = self._constant(f"{op.key}.weight.levels", conv.levels_OIHW)
        weight = self._builder.node("Cast", [levels], f"{op.key}.levels", to=TensorProto.FLOAT)
        if shift_O.any():
            units = self._constant(f"{op.key}.weight.unit", _column(0.5**shift_O, np.float32))
            weight = self._builder.node("Mul", [weight, units], f"{op.key}.weight")
        bias = ((bias_O + half_O) * 0.5**shift_O).astype(np.float32)
        inputs = [source, weight, self._constant(f"{op.key}.bias", bias)]
        attributes = conv_attributes(op, padding=op.padding)
        return self._builder.node("Conv", inputs, f"{op.name}.sum", **attributes)

    def _write_bytes(self, op: Conv, total: str) -> None:
        """t = floor(total); the byte is floor(t * m / 2^15 + 1/2), cut off at low and 255."""
        node, conv = self._builder.node, self._parameters.convs[op.name]
        parts = writers(self._graph, op.target)
        written = op.target if len(parts) == 1 else op.name
        assert conv.zero_point is not None
        if conv.shift_O.any():
            total = node("Floor", [total], f"{op.name}.t")
        factors = _column(conv.multiplier_O * 0.5**_BYTE_BITS, np.float32, batch=True)
        scaled = node(
            "Mul", [total, self._constant(f"{op.name}.multiplier", factors)], f"{op.name}.scaled"
        )
        rounded = self._rounded(scaled, op.name)
        bounds = [
            self._constant(f"bound.{value}", np.array(value, np.float32))
            for value in (conv.low - conv.zero_point, 255 - conv.zero_point)
        ]
        node("Clip", [rounded, *bounds], written)
        if len(parts) > 1 and op is parts[-1]:
            node("Concat", [part.name for part in parts], op.target, axis=1)

    def _write_head(self, op: Conv, total: str) -> None:
        """logit = floor(S * m / 2^s + 1/2) in units of 1/65536, in float64."""
        node, conv = self._builder.node, self._parameters.convs[op.name]
        if op.relu:
            total = node("Relu", [total], f"{op.name}.relu")
        total = node("Cast", [total], f"{op.name}.double", to=TensorProto.DOUBLE)
        axes = self._constant("positions", np.array([2, 3], np.int64))
        total = node("ReduceSum", [total, axes], f"{op.name}.total", keepdims=0)
        factors = conv.multiplier_O * 0.5 ** conv.shift_O.astype(np.float64)
        scaled = node(
            "Mul", [total, self._constant(f"{op.name}.multiplier", factors)], f"{op.name}.scaled"
        )
        half = self._constant("half.double", np.array(0.5, np.float64))
        rounded = node("Add", [scaled, half], f"{op.name}.rounded")
        whole = node("Floor", [rounded], f"{op.name}.integer")
        bounds = [
            self._constant(f"bound.{value}.double", np.array(value, np.float64))
            for value in (-(1 << 31), (1 << 31) - 1)
        ]
        whole = node("Clip", [whole, *bounds], f"{op.name}.clipped")
        unit = self._constant("unit.double", np.array(0.5**_FIXED_BITS, np.float64))
        logits = node("Mul", [whole, unit], f"{op.name}.logits")
        node("Cast", [logits], LOGITS, to=TensorProto.FLOAT)

    def _write_add(self, op: Add) -> None:
        """floor((R1 q1 + R2 q2) / 2^16 + 1/2), in float64: the products have up to 29 bits."""
        node, added = self._builder.node, self._parameters.adds[op.name]
        parts: list[str] = []
        for source, ratio in zip((op.source, op.other), added.ratios, strict=True):
            name = f"{op.name}.{len(parts)}"
            wide = node("Cast", [source], f"{name}.double", to=TensorProto.DOUBLE)
            factor = np.array(ratio * 0.5**_FIXED_BITS, np.float64)
            factors = self._constant(f"{name}.ratio", factor)
            parts.append(node("Mul", [wide, factors], f"{name}.scaled"))
        half = self._constant("half.double", np.array(0.5, np.float64))
        total = node("Add", [node("Add", parts, f"{op.name}.sum"), half], f"{op.name}.rounded")
        total = node("Floor", [total], f"{op.name}.integer")
        total = node("Cast", [total], f"{op.name}.single", to=TensorProto.FLOAT)
        bounds = [
            self._constant(f"bound.{value}", np.array(value, np.float32))
            for value in (-added.zero_point, 255 - added.zero_point)
        ]
        node("Clip", [total, *bounds], op.target)

    def _input_bytes(self) -> str:
        """q - the byte that pads, of pixels found again in the normalised input."""
        name, node, prep = f"{INPUT}.bytes", self._builder.node, self._model.record.preprocessing

        def of_channels(what: str, values: Any) -> str:
            return self._constant(f"{INPUT}.{what}", _column(values, np.float32, batch=True))

        parameters = self._parameters.input
        pixels = node("Mul", [INPUT, of_channels("std", prep.std)], f"{INPUT}.scaled")
        pixels = node("Add", [pixels, of_channels("mean", prep.mean)], f"{INPUT}.pixels")
        pixels = node("Round", [pixels], f"{INPUT}.levels")
        multipliers = np.array(parameters.multiplier_C) * 0.5**_FIXED_BITS
        scaled = node("Mul", [pixels, of_channels("multiplier", multipliers)], f"{name}.scaled")
        rounded = self._rounded(scaled, name)
        return node("Sub", [rounded, of_channels("padding", parameters.padding_C)], name)

    def _rounded(self, value: str, name: str) -> str:
        """floor(value + 1/2)"""
        half = self._constant("half", np.array(0.5, np.float32))
        total = self._builder.node("Add", [value, half], f"{name}.plus_half")
        return self._builder.node("Floor", [total], f"{name}.rounded")

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        return self._builder.constant(name, values)


def _column(values: Any, kind: type[np.float32], *, batch: bool = False) -> npt.NDArray[Any]:
    """Values per channel as an array that multiplies weights OIHW, or with ``batch`` NCHW."""
    column = np.array(values, kind).reshape(-1, 1, 1)
    return column if batch else column[..., None]
