"""Bytes and bits of each layer of a compressed model, for tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from squeezenet._native import Decoder, Encoder
from squeezenet.codec.huffman_streams import symbol_sizes
from squeezenet.codec.huffman_weights import side_bytes
from squeezenet.codec.numerics import UInt8Array
from squeezenet.codec.range_weights import layer_bytes
from squeezenet.codec.types import CompressedLayer, LevelWeights

_BLOCK = 1 << 20
"""Symbols that are counted at a time, which bounds memory to some tens of megabytes."""


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
    """Measure the size of every layer: by coding it, and by counting what Huffman codes take."""
    rows = []
    for layer, num_bytes in zip(layers, layer_bytes(layers), strict=True):
        num_symbol_bytes, sizes = symbol_sizes(_symbols(layer))
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
                huffman_bytes=len(side_bytes(layer)) + num_symbol_bytes,
                symbol_bits=sizes.symbol_bits,
                gap_bits=sizes.gap_bits,
            )
        )
    return rows


def _symbols(layer: CompressedLayer) -> Iterator[UInt8Array]:
    """Yield the symbols that both coders code, block by block: of a trellis, its codes."""
    weights = layer.weights
    if isinstance(weights, LevelWeights) and weights.trellis:
        yield from _codes(weights)
        return
    flat = weights.symbols_OIHW.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]


def _codes(weights: LevelWeights) -> Iterator[UInt8Array]:
    """Yield the codes of levels on the trellis, some output channels at a time.

    The coder turns levels into codes; a decoder that knows of no trellis leaves them as they are.
    """
    levels_OK = weights.levels_OIHW.reshape(len(weights.scales_O), -1)
    encoder = Encoder()
    inputs, height, width = weights.levels_OIHW.shape[1:]
    encoder.begin(inputs, height, width, True)
    for row_K in levels_OK:
        encoder.channel(row_K.astype(np.int16))
    decoder = Decoder(encoder.finish())
    decoder.begin(inputs, height, width)
    row_K = np.zeros(levels_OK.shape[1], np.int16)
    num_rows = max(1, _BLOCK // len(row_K))
    for start in range(0, len(levels_OK), num_rows):
        codes_OK = np.empty(levels_OK[start : start + num_rows].shape, np.int8)
        for codes_K in codes_OK:
            decoder.channel(row_K)
            codes_K[:] = row_K
        yield codes_OK.view(np.uint8).reshape(-1)
