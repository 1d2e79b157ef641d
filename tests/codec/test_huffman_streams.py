"""Huffman-coded symbols: the second entropy coder."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.codec.huffman_streams import decode_symbols, encode_symbols
from squeezenet.codec.reader import ByteReader


@given(
    st.lists(st.one_of(st.just(0), st.integers(0, 255)), min_size=1, max_size=2000),
    st.integers(0, 200),
)
@settings(deadline=None)
def test_symbols_round_trip(values: list[int], zeros: int) -> None:
    symbols = np.array([0] * zeros + values + [0] * zeros, np.uint8)
    data, _ = encode_symbols(symbols)
    reader = ByteReader(data, "test")
    np.testing.assert_array_equal(decode_symbols(reader, symbols.size), symbols)
    reader.finish()
    # Never much more than raw: code lengths, counts, and at most 15 bits a symbol and gap.
    assert len(data) <= symbols.size + 200


def test_long_gaps() -> None:
    symbols = np.zeros(100_000, np.uint8)
    symbols[[0, 62, 126, 190, 99_999]] = 7
    data, sizes = encode_symbols(symbols)
    np.testing.assert_array_equal(decode_symbols(ByteReader(data, "x"), symbols.size), symbols)
    assert sizes.gap_bits > 0 and len(data) < 500
