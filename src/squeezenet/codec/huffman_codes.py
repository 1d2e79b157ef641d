"""Canonical Huffman codes of at most 15 bits over small alphabets.

Stage three of Deep Compression (arXiv 1510.00149, section 4). A code is stored as its lengths
alone: symbols of equal length get consecutive codes in symbol order (RFC 1951, section 3.2.2).
This module is independent of weights and files.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeezenet.errors import MalformedError

MAX_LENGTH = 15
"""Max bits of a code, as in RFC 1951: a length fits 4 bits, and 2^15 table entries decode it."""
_BLOCK = 1 << 20
"""Symbols that are processed at a time, which bounds memory to some tens of megabytes."""


def code_lengths(frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the optimal code length of each symbol, 1 to 15 bits; 0 for unused symbols.

    By package-merge (Larmore and Hirschberg, 1990). A single used symbol gets one bit.
    """
    used = np.flatnonzero(frequencies)
    lengths = np.zeros(frequencies.size, np.uint8)
    if used.size == 1:
        lengths[used] = 1
    if used.size <= 1:
        return lengths
    coins = sorted((int(frequencies[s]), (int(s),)) for s in used)
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(MAX_LENGTH):
        merged = sorted(coins + packages)
        packages = [
            (merged[i][0] + merged[i + 1][0], merged[i][1] + merged[i + 1][1])
            for i in range(0, len(merged) - 1, 2)
        ]
    for _, symbols in packages[: used.size - 1]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def canonical_codes(lengths: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return each symbol's code, right-aligned in ``lengths[symbol]`` bits.

    Raises:
        MalformedError: the lengths are not those of a complete prefix code, nor those of a single
            symbol of one bit.
    """
    codes = np.zeros(lengths.size, np.uint32)
    used = np.flatnonzero(lengths)
    if used.size == 0:
        return codes
    order = used[np.argsort(lengths[used], kind="stable")]
    assert lengths.max() <= MAX_LENGTH
    kraft = int(np.sum(1 << (MAX_LENGTH - lengths[used].astype(np.int64))))
    complete = kraft == 1 << MAX_LENGTH
    if not complete and not (used.size == 1 and lengths[used[0]] == 1):
        raise MalformedError(
            f"Huffman code: Kraft sum {kraft / (1 << MAX_LENGTH):g}, expected 1 (a complete prefix "
            "code), or one symbol of one bit"
        )
    code, length = 0, int(lengths[order[0]])
    for symbol in order:
        code <<= int(lengths[symbol]) - length
        length = int(lengths[symbol])
        codes[symbol] = code
        code += 1
    return codes


def encode(symbols: npt.NDArray[np.uint8], lengths: npt.NDArray[np.uint8]) -> bytes:
    """Return the symbols' codes, most significant bit first, padded with zeros to a byte.

    Every symbol must have a code.
    """
    codes = canonical_codes(lengths)
    packed = []
    rest = np.zeros(0, np.uint8)  # the bits of a byte that is not full yet
    for start in range(0, symbols.size, _BLOCK):
        block = symbols[start : start + _BLOCK]
        block_lengths = lengths[block].astype(np.int64)
        assert (block_lengths > 0).all(), "a symbol without a code"
        ends = np.cumsum(block_lengths)
        shifts = np.repeat(ends, block_lengths) - 1 - np.arange(ends[-1])
        bits = ((np.repeat(codes[block], block_lengths) >> shifts) & 1).astype(np.uint8)
        bits = np.concatenate([rest, bits])
        full = bits.size - bits.size % 8
        packed.append(np.packbits(bits[:full]).tobytes())
        rest = bits[full:]
    return b"".join([*packed, np.packbits(rest).tobytes()])


def frequencies(symbols: npt.NDArray[np.uint8], alphabet: int) -> npt.NDArray[np.int64]:
    """Return how often each symbol of an alphabet occurs in a flat array."""
    counts = np.zeros(alphabet, np.int64)
    for start in range(0, symbols.size, _BLOCK):
        counts += np.bincount(symbols[start : start + _BLOCK], minlength=alphabet)
    return counts


def num_bits(frequencies: npt.NDArray[np.int64], lengths: npt.NDArray[np.uint8]) -> int:
    """Return the number of bits that ``encode`` writes for symbols of these frequencies."""
    return int(np.dot(frequencies, lengths.astype(np.int64)))


def decode(data: bytes, num_symbols: int, lengths: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Decode the ``num_symbols`` symbols of ``encode``'s output.

    Raises:
        MalformedError: ``data`` is longer or shorter, has a code of no symbol, or other padding
            than zeros.
    """
    codes = canonical_codes(lengths)
    if num_symbols == 0:
        if data:
            raise MalformedError(f"Huffman data: {len(data)} bytes for 0 symbols, expected 0")
        return np.zeros(0, np.uint8)
    if num_symbols > 8 * len(data):
        raise MalformedError(
            f"Huffman data: {num_symbols} symbols, expected at most {8 * len(data)} in "
            f"{len(data)} bytes"
        )
    # A table over all 15-bit windows gives the symbol and the length at any bit position.
    symbol_of = np.zeros(1 << MAX_LENGTH, np.uint8)
    length_of = np.zeros(1 << MAX_LENGTH, np.uint8)
    for symbol in np.flatnonzero(lengths):
        shift = MAX_LENGTH - int(lengths[symbol])
        first = int(codes[symbol]) << shift
        symbol_of[first : first + (1 << shift)] = symbol
        length_of[first : first + (1 << shift)] = lengths[symbol]
    windows = _windows(data)
    lengths_at = length_of[windows].tobytes()
    total_bits = 8 * len(data)
    positions = np.empty(num_symbols, np.int64)
    position = 0
    for start in range(0, num_symbols, _BLOCK):
        count = min(_BLOCK, num_symbols - start)
        block = [0] * count
        for i in range(count):
            if position >= total_bits:
                raise MalformedError(
                    f"Huffman data: ends after {start + i} symbols, expected {num_symbols}"
                )
            block[i] = position
            length = lengths_at[position]
            if length == 0:
                raise MalformedError(f"Huffman data: no code begins at bit {position}")
            position += length
        positions[start : start + count] = block
    if not total_bits - 8 < position <= total_bits or data[-1] & (
        (1 << (total_bits - position)) - 1
    ):
        raise MalformedError(
            f"Huffman data: the last symbol ends at bit {position}, expected it in the last of "
            f"{len(data)} bytes, then zeros"
        )
    return symbol_of[windows[positions]]


def _windows(data: bytes) -> npt.NDArray[np.uint16]:
    """Return the 15 bits from each bit position on, with zeros after the end."""
    padded = np.frombuffer(data + b"\0\0", np.uint8).astype(np.uint32)
    three = (padded[:-2] << 16) | (padded[1:-1] << 8) | padded[2:]
    windows = np.empty((len(data), 8), np.uint16)
    for offset in range(8):
        windows[:, offset] = (three >> (24 - MAX_LENGTH - offset)) & ((1 << MAX_LENGTH) - 1)
    return windows.reshape(-1)
