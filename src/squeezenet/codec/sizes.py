"""Bytes and bits of each layer of a compressed model, for tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from squeezenet.codec.huffman_weights import encode_layer
from squeezenet.codec.range_weights import layer_bytes
from squeezenet.codec.trellis import to_codes
from squeezenet.codec.types import CompressedLayer, LevelWeights


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """The sizes of one layer.

    ``weights`` are all, ``kept`` the non-zero ones, ``density`` is their percentage. ``bytes``
    includes bias and codebook or scales; ``bits_per_weight`` is its bits per non-zero weight.
    ``huffman_bytes`` is the size with Huffman codes instead, of which ``symbol_bits`` are codes
    and ``gap_bits`` gaps; dense coding has no gaps.
    """

    layer: str
    weights: int
    kept: int
    density: float
    bits_per_weight: float
    float_bytes: int
    bytes: int
    huffman_bytes: int
    symbol_bits: int
    gap_bits: int


def layer_sizes(layers: tuple[CompressedLayer, ...]) -> list[LayerSizes]:
    """Measure the size of every layer by coding it."""
    rows = []
    for layer, num_bytes in zip(layers, layer_bytes(layers), strict=True):
        payload, sizes = encode_layer(_with_codes(layer))
        kept = layer.num_nonzero
        rows.append(
            LayerSizes(
                layer=layer.name,
                weights=layer.num_weights,
                kept=kept,
                density=100 * kept / layer.num_weights,
                bits_per_weight=8 * num_bytes / max(1, kept),
                float_bytes=4 * (layer.num_weights + len(layer.bias_O)),
                bytes=num_bytes,
                huffman_bytes=len(payload),
                symbol_bits=sizes.symbol_bits,
                gap_bits=sizes.gap_bits,
            )
        )
    return rows


def _with_codes(layer: CompressedLayer) -> CompressedLayer:
    """Replace levels on the trellis by their codes, so that both coders code the same symbols."""
    weights = layer.weights
    if not (isinstance(weights, LevelWeights) and weights.trellis):
        return layer
    rows = weights.levels_OIHW.reshape(len(layer.bias_O), -1).tolist()
    for row in rows:
        to_codes(row)
    codes_OIHW = np.array(rows, np.int8).reshape(weights.levels_OIHW.shape)
    plain = LevelWeights(levels_OIHW=codes_OIHW, scales_O=weights.scales_O)
    return dataclasses.replace(layer, weights=plain)
