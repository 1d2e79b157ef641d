"""The content of a file: small integers with a codebook or with scales, layer by layer.

Legend: O output channels, I input channels of a group, H W kernel height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from squeezenet.arch.graph import build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.numerics import (
    ACTIVATION_SCALE_MANTISSA_BITS,
    SCALE_MANTISSA_BITS,
    Float32Array,
    Int8Array,
    UInt8Array,
    mantissa_bits,
)
from squeezenet.errors import WeightsError

MAX_LEVEL = 127
"""Largest magnitude of a level: spec/FORMAT.md, "WEIGHTS". It fits int8."""
MAX_CODEBOOK = 256
"""Max entries of a codebook, 0.0 included: a code is one byte."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodebookWeights:
    """Deep Compression's representation: weight = codebook[code], exact to the float32 bit.

    ``codes_OIHW`` uint8; ``codebook`` float32 with at most 256 entries. Entry 0 is 0.0, the value
    of pruned weights.
    """

    codes_OIHW: UInt8Array
    codebook: Float32Array

    def __post_init__(self) -> None:
        assert self.codes_OIHW.dtype == np.uint8 and self.codes_OIHW.ndim == 4
        assert self.codebook.dtype == np.float32 and 1 <= self.codebook.size <= MAX_CODEBOOK
        assert self.codebook[0] == 0.0
        assert self.codes_OIHW.max(initial=0) < self.codebook.size

    @property
    def symbols_OIHW(self) -> UInt8Array:
        """The symbols of the entropy coder; 0 is a zero weight."""
        return self.codes_OIHW

    @property
    def side_values(self) -> Float32Array:
        """The floats that map symbols to weights."""
        return self.codebook

    def dequantize(self) -> Float32Array:
        """Compute the weights, float32 OIHW."""
        return self.codebook[self.codes_OIHW]


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelWeights:
    """Integer levels: weight = level * scale of its output channel.

    ``levels_OIHW`` int8, -127 to 127; ``scales_O`` positive float32 with 5 mantissa bits
    (``round_scales``). The layer's biases are multiples of a power of two (``round_biases``).
    ``trellis``: the levels are on the trellis, and a file stores codes of half their size
    (``codec.trellis``).
    """

    levels_OIHW: Int8Array
    scales_O: Float32Array
    trellis: bool = False

    def __post_init__(self) -> None:
        assert self.levels_OIHW.dtype == np.int8 and self.levels_OIHW.ndim == 4
        assert self.scales_O.dtype == np.float32
        assert self.scales_O.shape == self.levels_OIHW.shape[:1]
        assert self.levels_OIHW.min(initial=0) >= -MAX_LEVEL
        assert mantissa_bits(self.scales_O) <= SCALE_MANTISSA_BITS

    @property
    def symbols_OIHW(self) -> UInt8Array:
        """The symbols of the Huffman coder: levels in two's complement; 0 is a zero weight."""
        return self.levels_OIHW.view(np.uint8)

    @property
    def side_values(self) -> Float32Array:
        """The floats that map symbols to weights."""
        return self.scales_O

    def dequantize(self) -> Float32Array:
        """Compute the weights, float32 OIHW."""
        return self.levels_OIHW.astype(np.float32) * self.scales_O[:, None, None, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedLayer:
    """One convolution: its ``name`` in the graph, weights, and bias, float32 (O,)."""

    name: str
    weights: CodebookWeights | LevelWeights
    bias_O: Float32Array

    @property
    def num_weights(self) -> int:
        return int(self.weights.symbols_OIHW.size)

    @property
    def num_nonzero(self) -> int:
        return int(np.count_nonzero(self.weights.symbols_OIHW))


@dataclass(frozen=True, kw_only=True)
class ActivationScale:
    """The value of an activation byte q is (q - ``zero_point``) * ``scale``: spec/INTEGER.md.

    ``scale`` is a positive normal bfloat16 number (``round_activation_scale``); ``zero_point`` is
    0 to 255.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        scale = np.array([self.scale], np.float32)
        assert scale[0] == self.scale and 0 <= self.zero_point <= 255
        assert mantissa_bits(scale) <= ACTIVATION_SCALE_MANTISSA_BITS
        assert np.finfo(np.float32).tiny <= self.scale < np.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedModel:
    """A record and the layers of its graph, in the graph's order.

    ``activations``: the scales of ``scaled_tensors``, in that order. A model without them, or with
    codebooks, runs in float32 alone.

    Raises:
        WeightsError: layers, shapes or activations are not those of the graph, the graph has batch
            normalisation, or a weight or bias is not finite.
    """

    record: ModelRecord
    layers: tuple[CompressedLayer, ...]
    activations: Mapping[str, ActivationScale] | None = None

    def __post_init__(self) -> None:
        graph = build_graph(self.record.spec)
        convs = graph.convs
        if any(conv.norm_key is not None for conv in convs):
            raise WeightsError(
                f"{self.record.spec.name}: has batch normalisation, expected it folded into the "
                "convolutions"
            )
        if [layer.name for layer in self.layers] != [conv.name for conv in convs]:
            raise WeightsError(
                f"{self.record.spec.name}: {len(self.layers)} layers, not those of the network; "
                f"expected {len(convs)} from {convs[0].name} to {convs[-1].name}"
            )
        for layer, conv in zip(self.layers, convs, strict=True):
            shape = layer.weights.symbols_OIHW.shape
            if shape != conv.weight_shape:
                raise WeightsError(
                    f"{conv.name}: weight has shape {shape}, expected {conv.weight_shape}"
                )
            if layer.bias_O.shape != (conv.out_channels,):
                raise WeightsError(
                    f"{conv.name}: bias has shape {layer.bias_O.shape}, expected "
                    f"({conv.out_channels},)"
                )
            values = layer.weights.side_values
            if not (np.isfinite(values).all() and np.isfinite(layer.bias_O).all()):
                raise WeightsError(f"{conv.name}: a weight or bias is not a finite number")
        names = scaled_tensors(graph)
        if self.activations is not None and (not names or tuple(self.activations) != names):
            raise WeightsError(
                f"{self.record.spec.name}: activation scales of {len(self.activations)} tensors, "
                f"expected those of the network's {len(names)}"
            )

    @property
    def is_integer(self) -> bool:
        """Whether integer clients can run the model."""
        levels = all(isinstance(layer.weights, LevelWeights) for layer in self.layers)
        return levels and self.activations is not None


def exact_codebook(weight_OIHW: Float32Array) -> CodebookWeights | None:
    """Return float32 weights OIHW with an exact codebook.

    Returns None if they have more than 255 different values besides 0.0. Values are distinguished
    by their bits, so -0.0 and 0.0 stay different.
    """
    bits = np.ascontiguousarray(weight_OIHW, dtype=np.float32).view(np.uint32)
    values, inverse = np.unique(bits, return_inverse=True)
    if values[0] != 0:
        values = np.concatenate([np.zeros(1, np.uint32), values])
        inverse = inverse + 1
    if values.size > MAX_CODEBOOK:
        return None
    return CodebookWeights(
        codes_OIHW=inverse.reshape(weight_OIHW.shape).astype(np.uint8),
        codebook=values.view(np.float32),
    )
