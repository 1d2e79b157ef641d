"""The int8 graph: ``QuantizeLinear`` and ``DequantizeLinear`` (QDQ) with the file's own numbers.

Nothing is calibrated anew. Weights are the file's levels, int8 with a scale per output channel and
zero point 0; activations are uint8 with the scales and zero points of the section ACTIVATIONS;
biases are int32, the accumulator's B of spec/INTEGER.md. So an engine that runs the graph in
integers has the same sums as our clients. It rounds them to bytes in one step, spec/INTEGER.md in
two, so now and then a byte differs by one.

- **The input** has a zero point per channel, which ONNX has not. The mean is added back first, so
  that the byte of a pixel is as in spec/INTEGER.md and its zero point is 0. What the means
  contribute is in the bias, as it is in B. A padded input is padded before, with the mean.
- **The head** has no scale for its output: it is summed exactly. As a matrix product without
  quantised output it runs in integers in ONNX Runtime; a convolution would run in float32.

Legend: N images; C channels, H W height and width; O output channels, I input channels of a group;
K classes.
"""

from __future__ import annotations

import numpy as np

from squeezenet.arch.graph import Add, Conv, GlobalAveragePool, MaxPool, build_graph
from squeezenet.arch.quantized_tensors import find_head, source_of_scale
from squeezenet.codec.types import CompressedModel, LevelWeights
from squeezenet.export.onnx.builder import (
    INPUT,
    LOGITS,
    OnnxBuilder,
    conv_attributes,
    pool_attributes,
    writers,
)
from squeezenet.reference.integer_parameters import integer_parameters

_SMALLEST = np.finfo(np.float32).tiny
"""A scale must not round to 0. Sums are below 2^30, so what it stands for is 0 all the same."""
_MAX_PAIR = 128
"""255 * 128 is within 16 bits, 255 * 129 is not."""


def write_int8_graph(builder: OnnxBuilder, model: CompressedModel) -> None:
    """Append the network from ``input``, float32 (N, C, H, W), to ``logits``, float32 (N, K).

    Raises:
        FloatOnlyError, LimitError: see ``integer_parameters``.
    """
    _Int8Writer(builder, model).write()


def saturating_layers(model: CompressedModel) -> tuple[str, ...]:
    """Return the layers in which 16-bit sums of two products can overflow.

    x86 without VNNI adds two products of a byte and a level in 16 bits. The sum is exact unless
    two levels of one sign in an output channel add up to more than 128.
    """
    found = []
    for layer in model.layers:
        assert isinstance(layer.weights, LevelWeights)
        levels_OK = layer.weights.levels_OIHW.reshape(len(layer.bias_O), -1).astype(np.int64)
        levels_OK.sort(axis=1)
        pairs = levels_OK[:, :2].sum(axis=1), levels_OK[:, -2:].sum(axis=1)
        if levels_OK.shape[1] > 1 and max(np.abs(pair).max() for pair in pairs) > _MAX_PAIR:
            found.append(layer.name)
    return tuple(found)


class _Int8Writer:
    """``_value`` of a tensor is the output of its last ``DequantizeLinear``, named as it is."""

    def __init__(self, builder: OnnxBuilder, model: CompressedModel) -> None:
        self._builder, self._model = builder, model
        self._graph = build_graph(model.record.spec)
        self._head = find_head(self._graph)
        self._own = source_of_scale(self._graph)
        self._parameters = integer_parameters(model)
        self._layers = {layer.name: layer for layer in model.layers}

    def write(self) -> None:
        graph, node = self._graph, self._builder.node
        for op in graph.operations:
            target = op.target
            if op is self._head:
                self._write_head(op)
            elif isinstance(op, Conv):
                self._write_conv(op)
            elif isinstance(op, MaxPool):
                node("MaxPool", [op.source], f"{target}.max", **pool_attributes(graph, op))
                self._quantize(f"{target}.max", target, target)
            elif isinstance(op, Add):
                node("Add", [op.source, op.other], f"{target}.sum")
                self._quantize(f"{target}.sum", target, target)
            else:
                assert isinstance(op, GlobalAveragePool)  # it is part of the head

    def _write_conv(self, op: Conv) -> None:
        node, parts = self._builder.node, writers(self._graph, op.target)
        source, padding = op.source, op.padding
        if source == self._graph.input:
            source, padding = self._quantized_input(op), 0
        written = op.target if len(parts) == 1 else op.name
        weights = self._levels(op, "OIHW"), self._bias(op)
        total = node(
            "Conv", [source, *weights], f"{written}.sum", **conv_attributes(op, padding=padding)
        )
        if op.relu:
            total = node("Relu", [total], f"{written}.relu")
        self._quantize(total, op.target, written)
        if len(parts) > 1 and op is parts[-1]:
            joined = f"{op.target}.concat"
            node("Concat", [part.name for part in parts], joined, axis=1)
            self._quantize(joined, op.target, op.target)

    def _write_head(self, op: Conv) -> None:
        """A 1x1 convolution as a matrix product over channels, then the mean over positions."""
        assert op.kernel == (1, 1) and op.stride == op.groups == 1
        node, source = self._builder.node, op.source
        if op.padding:
            source = self._pad(source, op)
            source = self._quantize(source, op.source, f"{op.name}.source")
        x_NHWC = node("Transpose", [source], f"{op.name}.transposed", perm=[0, 2, 3, 1])
        x_NHWC = self._quantize(x_NHWC, op.source, f"{op.name}.source_NHWC")
        total = node("MatMul", [x_NHWC, self._levels(op, "IO")], f"{op.name}.product")
        total = node("Add", [total, self._bias(op)], f"{op.name}.sum")
        if op.relu:
            total = node("Relu", [total], f"{op.name}.relu")
        node("ReduceMean", [total], LOGITS, axes=[1, 2], keepdims=0)

    def _quantized_input(self, op: Conv) -> str:
        """Quantise the input to the bytes of spec/INTEGER.md, padded as ``op`` wants it."""
        prep = self._model.record.preprocessing
        mean_C, std_C = np.array(prep.mean, np.float32), np.array(prep.std, np.float32)
        means = self._builder.constant(f"{INPUT}.mean", (mean_C / std_C).reshape(1, -1, 1, 1))
        padded = self._pad(INPUT, op) if op.padding else INPUT
        lifted = self._builder.node("Add", [padded, means], f"{op.name}.lifted")
        return self._quantize(lifted, INPUT, f"{op.name}.source")

    def _pad(self, source: str, op: Conv) -> str:
        sides = np.array([0, 0, op.padding, op.padding] * 2, np.int64)
        pads = self._builder.constant(f"{op.name}.pads", sides)
        return self._builder.node("Pad", [source, pads], f"{op.name}.padded")

    def _quantize(self, value: str, tensor: str, name: str) -> str:
        """Round a value to the bytes of a tensor, and call what they stand for ``name``."""
        own = self._own[tensor] if tensor != INPUT else INPUT
        constants = [
            self._builder.constant(f"{own}.scale", np.array(self._scale(own), np.float32)),
            self._builder.constant(f"{own}.zero_point", np.array(self._zero_point(own), np.uint8)),
        ]
        self._builder.node("QuantizeLinear", [value, *constants], f"{name}.bytes")
        return self._builder.node("DequantizeLinear", [f"{name}.bytes", *constants], name)

    def _scale(self, own: str) -> float:
        if own == self._graph.input:
            return float(self._parameters.input.scale)
        assert self._model.activations is not None
        return self._model.activations[own].scale

    def _zero_point(self, own: str) -> int:
        if own == self._graph.input:
            return 0
        assert self._model.activations is not None
        return self._model.activations[own].zero_point

    def _levels(self, op: Conv, order: str) -> str:
        """Dequantised levels of a layer, OIHW, or IO of a 1x1 convolution."""
        weights, constant = self._layers[op.name].weights, self._builder.constant
        assert isinstance(weights, LevelWeights)
        levels, axis = weights.levels_OIHW, 0
        if order == "IO":
            levels, axis = levels[:, :, 0, 0].T, 1
        inputs = [
            constant(f"{op.key}.weight.levels", levels),
            constant(f"{op.key}.weight.scale", weights.scales_O),
            constant(f"{op.key}.weight.zero_point", np.zeros(op.out_channels, np.int8)),
        ]
        return self._builder.node("DequantizeLinear", inputs, f"{op.key}.weight", axis=axis)

    def _bias(self, op: Conv) -> str:
        """Dequantised bias of a layer, (O,), in the accumulator's units."""
        weights, constant = self._layers[op.name].weights, self._builder.constant
        assert isinstance(weights, LevelWeights)
        own = self._own[op.source]
        # B has the source's zero point in it, which DequantizeLinear takes off: not the input's.
        sums_O = weights.levels_OIHW.astype(np.int64).sum(axis=(1, 2, 3))
        bias_O = self._parameters.convs[op.name].bias_O + self._zero_point(own) * sums_O
        scale_O = weights.scales_O.astype(np.float64) * self._scale(own)
        inputs = [
            constant(f"{op.key}.bias.units", bias_O.astype(np.int32)),
            constant(f"{op.key}.bias.scale", scale_O.astype(np.float32).clip(_SMALLEST)),
            constant(f"{op.key}.bias.zero_point", np.zeros(op.out_channels, np.int32)),
        ]
        return self._builder.node("DequantizeLinear", inputs, f"{op.key}.bias", axis=0)
