"""Float32 NumPy interpreter of a compressed model: one branch per operation of its graph.

Runs layers with codebooks and with levels, both from their dequantised weights. No torch and no
compiled code of ours; matrix products are NumPy's.

Legend: N images; C channels, H W height and width of one image; O output channels, I input
channels of a group; K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import (
    Add,
    Conv,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    Tensor,
    build_graph,
)
from squeezenet.arch.liveness import lifetimes
from squeezenet.codec.types import CompressedModel
from squeezenet.images.decode import Pixels
from squeezenet.images.preprocess import normalise
from squeezenet.reference.windows import columns, max_pool

Float32Array: TypeAlias = npt.NDArray[np.float32]
_MAX_WINDOW_VALUES = 1 << 24
"""Most values of kernel windows at a time, 64 MB: nine times those of SqueezeNet v1.0."""


class FloatInterpreter:
    """A model with dequantised weights; call it with input to get logits.

    ``observe`` is called with every tensor once all its channels are computed: its name and its
    values, float32 (C, H, W).
    """

    def __init__(
        self, model: CompressedModel, observe: Callable[[str, Float32Array], None] | None = None
    ) -> None:
        self._preprocessing = model.record.preprocessing
        self._observe = observe
        self._graph = build_graph(model.record.spec)
        self._dead_before: list[list[str]] = [[] for _ in self._graph.operations]
        for name, (_, last) in lifetimes(self._graph).items():
            if last + 1 < len(self._dead_before):
                self._dead_before[last + 1].append(name)
        self._last_write = {op.target: i for i, op in enumerate(self._graph.operations)}
        self._layers = model.layers

    @cached_property
    def _weights(self) -> dict[str, tuple[Float32Array, Float32Array]]:
        """Weights (O, K) and biases by layer, made at the first run: they take four bytes each."""
        return {
            layer.name: (layer.weights.dequantize().reshape(len(layer.bias_O), -1), layer.bias_O)
            for layer in self._layers
        }

    def logits(self, pixels_NHWC: Pixels) -> Float32Array:
        """Run cropped pixels: uint8 (N, H, W, C) -> logits (N, K)."""
        return self(normalise(pixels_NHWC, self._preprocessing))

    def __call__(self, x_NCHW: Float32Array) -> Float32Array:
        """Run a batch, image by image: float32 (N, C, H, W) -> logits (N, K).

        Extreme weights give infinite or NaN logits, without a warning.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([self._run(x_CHW) for x_CHW in x_NCHW])

    def _run(self, x_CHW: Float32Array) -> Float32Array:
        graph = self._graph
        values: dict[str, Float32Array] = {graph.input: x_CHW}
        for i, op in enumerate(graph.operations):
            for name in self._dead_before[i]:
                del values[name]
            x_CHW, target = values[op.source], graph.tensors[op.target]
            if isinstance(op, Conv):
                out = values.setdefault(op.target, _empty(target))
                part = out[op.target_start : op.target_start + op.out_channels]
                convolve(x_CHW, *self._weights[op.name], op, part)
            elif isinstance(op, MaxPool):
                values[op.target] = max_pool(x_CHW, op.kernel, op.stride, target, -np.inf)
            elif isinstance(op, Add):
                values[op.target] = x_CHW + values[op.other]
            elif isinstance(op, LocalResponseNorm):
                values[op.target] = local_response_norm(x_CHW, op)
            else:
                assert isinstance(op, GlobalAveragePool)
                values[op.target] = x_CHW.mean(axis=(1, 2), keepdims=True)
            if self._observe is not None and self._last_write[op.target] == i:
                self._observe(op.target, values[op.target])
        return values[graph.output].reshape(-1)


def convolve(
    x_CHW: Float32Array, w_OK: Float32Array, bias_O: Float32Array, op: Conv, out_OHW: Float32Array
) -> None:
    """Compute a convolution into ``out_OHW``; ``w_OK`` has K = I * kernel height * kernel width.

    Where windows would take much memory, some rows of the output are computed at a time.
    """
    if op.padding:
        pad = (op.padding, op.padding)
        x_CHW = np.pad(x_CHW, ((0, 0), pad, pad))
    num_out = op.out_channels // op.groups
    num_in = op.in_channels // op.groups
    _, height, width = out_OHW.shape
    step = max(1, _MAX_WINDOW_VALUES // (w_OK.shape[1] * width))
    for group in range(op.groups):
        channels = slice(group * num_out, (group + 1) * num_out)
        x_IHW = x_CHW[group * num_in : (group + 1) * num_in]
        for top in range(0, height, step):
            bottom = min(top + step, height)
            last = (bottom - 1) * op.stride + op.kernel[0]
            y = w_OK[channels] @ columns(x_IHW[:, top * op.stride : last], op)
            y += bias_O[channels, None]
            if op.relu:
                np.maximum(y, 0, out=y)
            out_OHW[channels, top:bottom] = y.reshape(num_out, bottom - top, width)


def local_response_norm(x_CHW: Float32Array, op: LocalResponseNorm) -> Float32Array:
    """Divide by a power of the mean square of neighbouring channels, as Caffe does (C, H, W)."""
    half = op.size // 2
    squares = np.pad(x_CHW * x_CHW, ((half, half), (0, 0), (0, 0)))
    total = sum(squares[i : i + len(x_CHW)] for i in range(op.size))
    scale = (1 + op.alpha / op.size * total) ** op.beta
    return (x_CHW / scale).astype(np.float32)


def _empty(tensor: Tensor) -> Float32Array:
    return np.empty((tensor.channels, tensor.height, tensor.width), np.float32)
