"""The sizes of layers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from squeezenet.codec.huffman_weights import encode_layer
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.sizes import LayerSizes, layer_sizes
from squeezenet.codec.trellis import to_levels
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


@pytest.mark.parametrize("seed", range(6))
def test_sizes_of_random_layers_are_those_of_coding(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in blocks of any size, with and without a trellis, sparse and dense."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr("squeezenet.codec.sizes._BLOCK", int(rng.integers(1, 300)))
    shape = tuple(int(n) for n in rng.integers(1, 9, 4))
    codes_OIHW = rng.integers(-9, 10, shape) * (rng.random(shape) < (0.02, 0.9)[seed % 2])
    scales_O = np.ones(shape[0], np.float32)
    bias_O = np.zeros(shape[0], np.float32)

    def sizes_of(values: list[list[int]], trellis: bool) -> tuple[CompressedLayer, LayerSizes]:
        levels = np.array(values, np.int8).reshape(shape)
        weights = LevelWeights(levels_OIHW=levels, scales_O=scales_O, trellis=trellis)
        whole = CompressedLayer(name="x", weights=weights, bias_O=bias_O)
        return whole, layer_sizes((whole,))[0]

    rows = codes_OIHW.reshape(shape[0], -1).tolist()
    plain, sizes = sizes_of(rows, trellis=False)
    for row in rows:
        to_levels(row)
    _, on_trellis = sizes_of(rows, trellis=True)
    coded, streams = encode_layer(plain)
    for found in (sizes, on_trellis):
        assert found.huffman_bytes == len(coded)
        assert (found.symbol_bits, found.gap_bits) == (streams.symbol_bits, streams.gap_bits)
