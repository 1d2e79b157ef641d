"""Integer NumPy interpreter of a compressed model: spec/INTEGER.md, clause by clause.

Every integer client must equal this oracle bit for bit. Accumulators are integers within 2^30, so
float64 matrix products are exact, and fast. ``integer_parameters`` computes the constants from the
file.

Legend: N images; C channels, H W height and width, P positions of one image; O output channels,
I input channels of a group; K classes, or the elements of one output channel's kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import Add, Conv, MaxPool, build_graph
from squeezenet.codec.types import CompressedModel
from squeezenet.images.decode import Pixels
from squeezenet.reference.integer_parameters import (
    AddParameters,
    ConvParameters,
    InputParameters,
    IntArray,
    integer_parameters,
)
from squeezenet.reference.windows import columns, max_pool

Bytes = npt.NDArray[np.uint8]
LOGIT_UNIT = 1 / 65536
"""The value of 1 in an integer logit: spec/INTEGER.md, "Convolution"."""


class IntegerInterpreter:
    """A model with its integer constants.

    Raises:
        FloatOnlyError, LimitError: see ``integer_parameters``.
    """

    def __init__(self, model: CompressedModel) -> None:
        self._graph = build_graph(model.record.spec)
        self._parameters = integer_parameters(model)

    def logits(self, pixels_NHWC: Pixels) -> npt.NDArray[np.float32]:
        """Run cropped pixels: uint8 (N, H, W, C) -> logits (N, K)."""
        return (self.integer_logits(pixels_NHWC) * LOGIT_UNIT).astype(np.float32)

    def integer_logits(self, pixels_NHWC: Pixels) -> npt.NDArray[np.int32]:
        """Run cropped pixels: uint8 (N, H, W, C) -> int32 logits (N, K), in units of 1/65536."""
        return np.stack([self._run(pixels_HWC) for pixels_HWC in pixels_NHWC])

    def _run(self, pixels_HWC: Pixels) -> npt.NDArray[np.int32]:
        graph, parameters = self._graph, self._parameters
        values: dict[str, Bytes] = {graph.input: quantise_input(pixels_HWC, parameters.input)}
        for op in graph.operations:
            target, x_CHW = graph.tensors[op.target], values[op.source]
            if isinstance(op, Conv):
                conv = parameters.convs[op.name]
                acc_OP = accumulate(x_CHW, parameters.padding[op.source], conv, op)
                if conv.zero_point is None:
                    return sum_logits(acc_OP, conv, relu=op.relu)
                empty = np.empty((target.channels, target.height, target.width), np.uint8)
                out_CHW = values.setdefault(op.target, empty)
                part = out_CHW[op.target_start : op.target_start + op.out_channels]
                part[:] = requantise(acc_OP, conv).reshape(part.shape)
            elif isinstance(op, MaxPool):
                values[op.target] = max_pool(x_CHW, op.kernel, op.stride, target, 0)
            else:
                assert isinstance(op, Add)
                values[op.target] = add(x_CHW, values[op.other], parameters.adds[op.name])
        raise AssertionError("a graph without a head")


def quantise_input(pixels_HWC: Pixels, parameters: InputParameters) -> Bytes:
    """Quantise pixels: uint8 (H, W, C) -> bytes of the input tensor (C, H, W)."""
    multiplier_C = np.array(parameters.multiplier_C, np.int64)
    q_HWC = (pixels_HWC.astype(np.int64) * multiplier_C + (1 << 15)) >> 16
    return np.ascontiguousarray(q_HWC.transpose(2, 0, 1).astype(np.uint8))


def accumulate(x_CHW: Bytes, padding: tuple[int, ...], conv: ConvParameters, op: Conv) -> IntArray:
    """Compute the accumulators (O, P) of a convolution; ``padding`` is a byte, or one per channel.

    ``x_CHW`` uint8.
    """
    num_channels, height, width = x_CHW.shape
    pad = op.padding
    padded = np.empty((num_channels, height + 2 * pad, width + 2 * pad), np.float64)
    padded[:] = np.array(padding, np.float64).reshape(-1, 1, 1)
    padded[:, pad : pad + height, pad : pad + width] = x_CHW
    num_out, num_in = op.out_channels // op.groups, op.in_channels // op.groups
    w_OK = conv.levels_OIHW.reshape(op.out_channels, -1).astype(np.float64)
    parts = []
    for group in range(op.groups):
        rows = slice(group * num_out, (group + 1) * num_out)
        parts.append(w_OK[rows] @ columns(padded[group * num_in : (group + 1) * num_in], op))
    return np.concatenate(parts).astype(np.int64) + conv.bias_O[:, None]


def requantise(acc_OP: IntArray, conv: ConvParameters) -> Bytes:
    """Requantise accumulators (O, P) to bytes of the target."""
    assert conv.zero_point is not None
    shift_O, multiplier_O = conv.shift_O[:, None], conv.multiplier_O[:, None]
    t_OP = ((acc_OP + ((1 << shift_O) >> 1)) >> shift_O).clip(-32768, 32767)
    q_OP = conv.zero_point + ((t_OP * multiplier_O + (1 << 14)) >> 15)
    return q_OP.clip(conv.low, 255).astype(np.uint8)


def sum_logits(acc_OP: IntArray, conv: ConvParameters, *, relu: bool) -> npt.NDArray[np.int32]:
    """Sum the head's accumulators (O, P) over all positions: int32 logits (K,) in 1/65536."""
    sum_O = (acc_OP.clip(0) if relu else acc_OP).sum(axis=1)
    logit_O = (sum_O * conv.multiplier_O + ((1 << conv.shift_O) >> 1)) >> conv.shift_O
    clipped: npt.NDArray[np.int32] = logit_O.clip(-(1 << 31), (1 << 31) - 1).astype(np.int32)
    return clipped


def add(a_CHW: Bytes, b_CHW: Bytes, parameters: AddParameters) -> Bytes:
    """Add two tensors (C, H, W) of bytes with scales of their own: bytes of the target."""
    total: IntArray = np.full(a_CHW.shape, 1 << 15, np.int64)
    for x_CHW, ratio, zero_point in zip(
        (a_CHW, b_CHW), parameters.ratios, parameters.source_zero_points, strict=True
    ):
        total += ratio * (x_CHW.astype(np.int64) - zero_point)
    return (parameters.zero_point + (total >> 16)).clip(0, 255).astype(np.uint8)
