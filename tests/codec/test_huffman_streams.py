"""Symbols by Huffman codes: round trips, the layout by hand, and malformed streams."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.codec import huffman_codes
from squeezenet.codec.huffman_streams import SKIP, decode_symbols, encode_symbols
from squeezenet.codec.reader import ByteReader
from squeezenet.errors import MalformedError

DENSE, SPARSE = 0, 1


@given(
    st.lists(st.one_of(st.just(0), st.integers(0, 255)), min_size=1, max_size=2000),
    st.integers(0, 200),
)
@settings(deadline=None)
def test_round_trip(values: list[int], zeros: int) -> None:
    symbols = np.array([0] * zeros + values + [0] * zeros, np.uint8)
    data, _ = encode_symbols(symbols)
    reader = ByteReader(data, "test")
    np.testing.assert_array_equal(decode_symbols(reader, symbols.size), symbols)
    reader.finish()
    # Hardly more than raw: 160 bytes of code lengths, counts, at most 15 bits per symbol and gap.
    assert len(data) <= symbols.size + 200


def test_long_gaps() -> None:
    symbols = np.zeros(100_000, np.uint8)
    symbols[[0, 62, 126, 190, 99_999]] = 7
    data, sizes = encode_symbols(symbols)
    np.testing.assert_array_equal(decode_symbols(ByteReader(data, "x"), symbols.size), symbols)
    assert sizes.gap_bits > 0 and len(data) < 500


def stream(symbols: list[int], alphabet: int, lengths: dict[int, int]) -> bytes:
    """Code lengths in 4 bits each, the number of bytes, the codes."""
    table = np.zeros(alphabet, np.uint8)
    for symbol, length in lengths.items():
        table[symbol] = length
    nibbles = bytes(int(table[i] | table[i + 1] << 4) for i in range(0, alphabet, 2))
    data = huffman_codes.encode(np.array(symbols, np.uint8), table)
    return nibbles + struct.pack("<I", len(data)) + data


def sparse(
    values: list[int], gaps: list[int], *, num_entries: int | None = None,
    num_gaps: int | None = None,
) -> bytes:  # fmt: skip
    """The sparse mode; counts may be wrong. Values of 0, 7 or 9; gaps of 0, 2, 62 or 63."""
    return (
        struct.pack("<BI", SPARSE, len(values) if num_entries is None else num_entries)
        + stream(values, 256, {0: 1, 7: 2, 9: 2})
        + struct.pack("<I", len(gaps) if num_gaps is None else num_gaps)
        + stream(gaps, 64, {0: 1, 2: 3, 62: 3, 63: 2})
    )


def decoded(data: bytes, num_weights: int) -> list[int]:
    reader = ByteReader(data, "x")
    symbols = decode_symbols(reader, num_weights)
    reader.finish()
    return symbols.tolist()


def test_dense_layout() -> None:
    values = [7, 0, 0, 9, 0, 0, 0]
    data, sizes = encode_symbols(np.array(values, np.uint8))
    assert data == struct.pack("<BI", DENSE, 7) + stream(values, 256, {0: 1, 7: 2, 9: 2})
    assert (sizes.symbol_bits, sizes.gap_bits) == (9, 0)
    assert decoded(data, 7) == values


def test_sparse_layout() -> None:
    values, gaps = [7, 9, 7, 7], [2, 0, SKIP, 0, SKIP, 62]
    expected = [0, 0, 7, 9, *[0] * 63, 7, *[0] * 125, 7, 0]
    assert decoded(sparse(values, gaps), len(expected)) == expected
    # The encoder makes the same gaps. Many zeros make the sparse mode the shorter one.
    symbols = np.zeros(20_000, np.uint8)
    symbols[: len(expected)] = expected
    data, sizes = encode_symbols(symbols)
    assert data[:5] == struct.pack("<BI", SPARSE, 4)
    coded_values = stream(values, 256, {7: 1, 9: 1})
    assert data[5:].startswith(coded_values)
    lengths = huffman_codes.code_lengths(np.bincount(gaps, minlength=64))
    coded_gaps = stream(gaps, 64, dict(enumerate(lengths.tolist())))
    assert data[5 + len(coded_values) :] == struct.pack("<I", 6) + coded_gaps
    assert (sizes.symbol_bits, sizes.gap_bits) == (4, 12)


def test_an_empty_tensor_of_zeros() -> None:
    data = sparse([], [])
    assert decoded(data, 5) == [0] * 5


@pytest.mark.parametrize(
    ("data", "num_weights", "message"),
    [
        (b"\x02" + sparse([7], [0])[1:], 9, "coding mode 2, expected 0 or 1"),
        (sparse([7] * 4, [0] * 4), 3, "4 entries, expected at most 3"),
        (struct.pack("<BI", DENSE, 2) + stream([7, 7], 256, {0: 1, 7: 1}), 3, "2 entries, exp.* 3"),
        (sparse([7, 0], [0, 0]), 9, "zero among the entries"),
        (sparse([7], [0], num_gaps=3), 126, "3 gaps, expected 1"),
        (sparse([7], [0], num_gaps=4), 126, "4 gap symbols, expected at most 3 for 1 entries"),
        (sparse([7], [0], num_gaps=2), 62, "2 gap symbols, expected at most 1 for 1 entries"),
        (sparse([7, 7], [0, 63]), 126, "1 gaps, expected 2"),
        (sparse([7], [0, 0]), 126, "2 gaps, expected 1"),
        (sparse([7], [0, 63]), 126, "1 gaps, expected 1, the last of them at the end"),
        (sparse([7, 7], [0, 2]), 3, "an entry after the last weight, at 3 of 3"),
        (sparse([7], [63, 0]), 63, "an entry after the last weight, at 63 of 63"),
    ],
)
def test_malformed_streams(data: bytes, num_weights: int, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        decoded(data, num_weights)


def test_entries_up_to_the_last_weight() -> None:
    assert decoded(sparse([7, 7], [0, 2]), 4) == [7, 0, 0, 7]
    assert decoded(sparse([7], [63, 0]), 64) == [*[0] * 63, 7]
    assert decoded(sparse([7] * 3, [0] * 3), 3) == [7] * 3
