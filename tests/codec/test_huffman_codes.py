"""Huffman codes: optimal, canonical, and strict about their input."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.codec import huffman_codes
from squeezenet.errors import MalformedError


def textbook_cost(frequencies: list[int]) -> int:
    """Total bits of a Huffman code of unlimited length: merge the two smallest, again and again."""
    heap = [f for f in frequencies if f]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=64))
@settings(deadline=None)
def test_lengths_are_optimal(frequencies: list[int]) -> None:
    array = np.array(frequencies, np.int64)
    lengths = huffman_codes.code_lengths(array)
    # The limit of 15 bits matters only for very skewed frequencies.
    cost = huffman_codes.num_bits(array, lengths)
    assert cost >= textbook_cost(frequencies)
    if lengths.max() < huffman_codes.MAX_LENGTH:
        assert cost == textbook_cost(frequencies)


def test_lengths_stay_within_15_bits() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = huffman_codes.code_lengths(np.array(fibonacci, np.int64))
    assert lengths.max() == 15
    huffman_codes.canonical_codes(lengths)  # complete


def test_lengths_by_hand() -> None:
    def lengths(*frequencies: int) -> list[int]:
        return huffman_codes.code_lengths(np.array(frequencies, np.int64)).tolist()

    assert lengths(0, 0) == [0, 0]
    assert lengths(0, 9, 0) == [0, 1, 0]
    assert lengths(1, 0, 1000) == [1, 0, 1]
    assert lengths(10, 1, 5, 1) == [1, 3, 2, 3]
    assert huffman_codes.num_bits(np.array([10, 1, 5, 1]), np.array([1, 3, 2, 3], np.uint8)) == 26


def test_codes_of_no_symbol_and_of_one() -> None:
    assert huffman_codes.canonical_codes(np.zeros(3, np.uint8)).tolist() == [0, 0, 0]
    one = np.array([0, 1, 0], np.uint8)
    assert huffman_codes.canonical_codes(one).tolist() == [0, 0, 0]
    assert huffman_codes.encode(np.ones(9, np.uint8), one) == b"\0\0"
    assert huffman_codes.decode(b"\0\0", 9, one).tolist() == [1] * 9


def test_bytes_by_hand() -> None:
    lengths = np.array([1, 2, 2], np.uint8)  # codes 0, 10, 11
    data = huffman_codes.encode(np.array([2, 0, 1, 0, 0, 2], np.uint8), lengths)
    assert data == bytes([0b11010001, 0b10000000])
    assert huffman_codes.decode(data, 6, lengths).tolist() == [2, 0, 1, 0, 0, 2]
    with pytest.raises(AssertionError, match="without a code"):
        huffman_codes.encode(np.array([1], np.uint8), np.array([1, 0], np.uint8))


@pytest.mark.parametrize("block", [1, 7, 8, 100])
def test_long_data_is_processed_in_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    symbols = np.minimum(rng.geometric(0.3, 100) - 1, 15).astype(np.uint8)
    lengths = huffman_codes.code_lengths(np.bincount(symbols, minlength=16).astype(np.int64))
    data = huffman_codes.encode(symbols, lengths)
    monkeypatch.setattr(huffman_codes, "_BLOCK", block)
    assert huffman_codes.encode(symbols, lengths) == data
    np.testing.assert_array_equal(huffman_codes.decode(data, 100, lengths), symbols)
    with pytest.raises(MalformedError, match="ends after 10[0-9] symbols, expected 120"):
        huffman_codes.decode(data, 120, lengths)


def test_codes_of_fifteen_bits() -> None:
    lengths = np.array([*range(1, 16), 15], np.uint8)
    symbols = np.array([15, 0, 14, 7, 15], np.uint8)
    data = huffman_codes.encode(symbols, lengths)
    assert len(data) == (15 + 1 + 15 + 8 + 15 + 7) // 8
    np.testing.assert_array_equal(huffman_codes.decode(data, 5, lengths), symbols)


def test_canonical_example() -> None:
    # The example of RFC 1951, section 3.2.2: lengths of A..H and their codes.
    lengths = np.array([3, 3, 3, 3, 3, 2, 4, 4], np.uint8)
    codes = huffman_codes.canonical_codes(lengths)
    assert codes.tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


@given(st.lists(st.integers(0, 255), max_size=300), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_round_trip(values: list[int], seed: int) -> None:
    symbols = np.array(values, np.uint8)
    lengths = huffman_codes.code_lengths(np.bincount(symbols, minlength=256).astype(np.int64))
    data = huffman_codes.encode(symbols, lengths)
    assert huffman_codes.encode(symbols, lengths) == data
    assert huffman_codes.decode(data, symbols.size, lengths).tolist() == values


@pytest.mark.parametrize("lengths", [[1, 1, 1], [2, 2], [1, 2], [3], [2, 2, 2, 2, 2]])
def test_lengths_of_no_complete_code(lengths: list[int]) -> None:
    with pytest.raises(MalformedError, match=r"Kraft sum \S+, expected 1"):
        huffman_codes.canonical_codes(np.array(lengths, np.uint8))


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        (b"", 1, "1 symbols, expected at most 0"),
        (b"\x00", 0, "1 bytes for 0 symbols"),
        (b"\x00", 9, "9 symbols, expected at most 8"),
        (b"\xff", 8, "ends after 4 symbols, expected 8"),
        (b"\x00\x00", 3, "ends at bit 3"),
        (b"\x01", 3, "ends at bit 3"),
    ],
)
def test_bad_data(data: bytes, count: int, message: str) -> None:
    lengths = np.array([1, 2, 2], np.uint8)
    with pytest.raises(MalformedError, match=message):
        huffman_codes.decode(data, count, lengths)


def test_no_code_at_this_bit() -> None:
    with pytest.raises(MalformedError, match="no code begins at bit 1"):
        huffman_codes.decode(b"\x40", 2, np.array([1], np.uint8))
