"""The sizes of layers by hand."""

from __future__ import annotations

import numpy as np

from squeezenet.codec.huffman_weights import encode_layer
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.sizes import layer_sizes
from squeezenet.codec.types import CompressedLayer, LevelWeights


def layer(*levels: int, trellis: bool = False) -> CompressedLayer:
    """Two output channels with the same levels."""
    levels_OIHW = np.array([levels, levels], np.int8).reshape(2, -1, 1, 1)
    weights = LevelWeights(
        levels_OIHW=levels_OIHW, scales_O=np.ones(2, np.float32), trellis=trellis
    )
    return CompressedLayer(name="x", weights=weights, bias_O=np.zeros(2, np.float32))


def test_sizes_by_hand() -> None:
    first, second = layer(3, 0, 0, 0, -3, 3), layer(0, 0)
    sizes = layer_sizes((first, second))
    assert [(s.layer, s.weights, s.kept, s.density) for s in sizes] == [
        ("x", 12, 6, 50.0), ("x", 4, 0, 0.0)
    ]  # fmt: skip
    assert [s.float_bytes for s in sizes] == [4 * (12 + 2), 4 * (4 + 2)]
    assert sum(s.bytes for s in sizes) == len(encode_weights((first, second)))
    assert [s.bits_per_weight for s in sizes] == [8 * sizes[0].bytes / 6, 8 * sizes[1].bytes]
    assert [s.huffman_bytes for s in sizes] == [
        len(encode_layer(each)[0]) for each in (first, second)
    ]
    # Dense: one bit for each of the six zeros, two for 3, which occurs four times, and -3.
    assert (sizes[0].symbol_bits, sizes[0].gap_bits) == (6 + 2 * 6, 0)


def test_levels_on_the_trellis_are_measured_by_their_codes() -> None:
    # Codes 1, 0, 1 lead through states 0, 2, 1; a code k in an odd state is the level 2k - 1.
    on_trellis, codes = layer(2, 0, 1, trellis=True), layer(1, 0, 1)
    [first], [second] = layer_sizes((on_trellis,)), layer_sizes((codes,))
    assert first.symbol_bits == second.symbol_bits == 6
    assert first.huffman_bytes == second.huffman_bytes
