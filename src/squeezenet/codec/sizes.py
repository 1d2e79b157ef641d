"""What each layer of a compressed model takes: the numbers that tables show."""

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
    """One layer: ``density`` in percent, ``bytes`` with bias and codebook or scales, and
    ``bits_per_weight``, these bytes' bits for each weight that is not zero. ``huffman_bytes`` is
    what Huffman codes take instead; ``symbol_bits`` and ``gap_bits`` of those are codes and gaps
    (where zeros are coded among the codes there are no gaps)."""

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
    """Measure every layer by coding it."""
    rows = []
    for layer, num_bytes in zip(layers, layer_bytes(layers), strict=True):
        payload, sizes = encode_layer(_of_codes(layer))
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


def _of_codes(layer: CompressedLayer) -> CompressedLayer:
    """The layer with its codes for levels: both coders shall have the same symbols."""
    weights = layer.weights
    if not (isinstance(weights, LevelWeights) and weights.trellis):
        return layer
    rows = weights.levels_OIHW.reshape(len(layer.bias_O), -1).tolist()
    for row in rows:
        to_codes(row)
    codes_OIHW = np.array(rows, np.int8).reshape(weights.levels_OIHW.shape)
    plain = LevelWeights(levels_OIHW=codes_OIHW, scales_O=weights.scales_O)
    return dataclasses.replace(layer, weights=plain)
