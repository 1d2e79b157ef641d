"""Huffman codes: optimal, canonical, and never trusting."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.codec import huffman_codes
from squeezenet.errors import MalformedError


def textbook_cost(frequencies: list[int]) -> int:
    """Total bits of a Huffman code by the two-smallest construction, of any length."""
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
    # 64 symbols of frequency up to 1000 may need over 15 bits only in rare, skewed cases.
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
def test_lengths_that_make_no_code(lengths: list[int]) -> None:
    with pytest.raises(MalformedError):
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
