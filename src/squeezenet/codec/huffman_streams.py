"""Tensors of mostly small, often zero symbols <-> bytes by Huffman codes: spec/FORMAT.md.

A tensor is coded in the shorter of two modes. Sparse, as in the paper: the non-zero symbols, and
the number of zeros before each (the gap), with a Huffman code each. Dense: all symbols, zeros
included, with one Huffman code.

Layout: u8 mode (0 dense, 1 sparse); u32 number of entries; then the streams. A stream: its code
lengths (256 for symbols, 64 for gaps; 4 bits each, low nibble first), u32 number of bytes, bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.codec import huffman_codes
from squeezenet.codec.numerics import UInt8Array
from squeezenet.codec.reader import ByteReader
from squeezenet.errors import MalformedError

_DENSE, _SPARSE = 0, 1
NUM_SYMBOLS = 256
NUM_GAPS = 64
SKIP = NUM_GAPS - 1
"""Gap symbol for 63 zeros with no entry after them: longer gaps begin with skips."""


@dataclass(frozen=True, kw_only=True)
class StreamSizes:
    """Bits of a tensor's Huffman-coded streams, without code lengths and padding."""

    symbol_bits: int
    gap_bits: int


def encode_symbols(symbols: UInt8Array) -> tuple[bytes, StreamSizes]:
    """Code a tensor of any shape, flattened in C order. The shape is not stored."""
    flat = symbols.reshape(-1)
    nonzero = flat[flat != 0]
    gaps = _gap_symbols(np.flatnonzero(flat))
    dense, dense_bits = _stream(flat, NUM_SYMBOLS)
    values, value_bits = _stream(nonzero, NUM_SYMBOLS)
    coded_gaps, gap_bits = _stream(gaps, NUM_GAPS)
    if len(dense) <= len(values) + len(coded_gaps):
        head = struct.pack("<BI", _DENSE, flat.size)
        return head + dense, StreamSizes(symbol_bits=dense_bits, gap_bits=0)
    head = struct.pack("<BI", _SPARSE, nonzero.size)
    sizes = StreamSizes(symbol_bits=value_bits, gap_bits=gap_bits)
    return head + values + struct.pack("<I", gaps.size) + coded_gaps, sizes


def symbol_sizes(blocks: Iterable[UInt8Array]) -> tuple[int, StreamSizes]:
    """Return the number of bytes and the sizes of ``encode_symbols``, without coding.

    ``blocks`` are the parts of the flat tensor in order, so it need not be in memory at once.
    """
    frequencies = np.zeros(NUM_SYMBOLS, np.int64)
    gaps = np.zeros(NUM_GAPS, np.int64)
    num_zeros = 0  # since the last entry
    for block in blocks:
        frequencies += np.bincount(block, minlength=NUM_SYMBOLS)
        positions = np.flatnonzero(block)
        if not positions.size:
            num_zeros += block.size
            continue
        between = np.diff(positions, prepend=-1 - num_zeros) - 1
        gaps += np.bincount(between % SKIP, minlength=NUM_GAPS)
        gaps[SKIP] += int((between // SKIP).sum())
        num_zeros = int(block.size - 1 - positions[-1])
    dense_bytes, dense_bits = _stream_size(frequencies)
    frequencies[0] = 0
    value_bytes, value_bits = _stream_size(frequencies)
    gap_bytes, gap_bits = _stream_size(gaps)
    if dense_bytes <= value_bytes + gap_bytes:
        return 5 + dense_bytes, StreamSizes(symbol_bits=dense_bits, gap_bits=0)
    sizes = StreamSizes(symbol_bits=value_bits, gap_bits=gap_bits)
    return 5 + value_bytes + 4 + gap_bytes, sizes


def _stream_size(frequencies: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the bytes of a stream, code lengths included, and the bits of its codes."""
    bits = huffman_codes.num_bits(frequencies, huffman_codes.code_lengths(frequencies))
    return frequencies.size // 2 + 4 + -(-bits // 8), bits


def decode_symbols(reader: ByteReader, num_weights: int) -> UInt8Array:
    """Read ``encode_symbols``' bytes for ``num_weights`` symbols; return them as a flat array.

    Raises:
        MalformedError: the bytes are not such a coding.
    """
    mode, num_entries = reader.unpack("<BI")
    if mode not in (_DENSE, _SPARSE):
        raise MalformedError(f"{reader.where}: coding mode {mode}, expected 0 or 1")
    if num_entries > num_weights or (mode == _DENSE and num_entries != num_weights):
        raise MalformedError(
            f"{reader.where}: {num_entries} entries, expected {'at most ' * (mode == _SPARSE)}"
            f"{num_weights}"
        )
    symbols = _read_stream(reader, num_entries, NUM_SYMBOLS)
    if mode == _DENSE:
        return symbols
    if (symbols == 0).any():
        raise MalformedError(f"{reader.where}: zero among the entries, expected non-zero symbols")
    (num_gaps,) = reader.unpack("<I")
    max_gaps = num_entries + num_weights // SKIP
    if num_gaps > max_gaps:
        raise MalformedError(
            f"{reader.where}: {num_gaps} gap symbols, expected at most {max_gaps} for "
            f"{num_entries} entries"
        )
    gaps = _read_stream(reader, num_gaps, NUM_GAPS)
    is_entry = gaps != SKIP
    if int(np.count_nonzero(is_entry)) != num_entries or (num_gaps and not is_entry[-1]):
        raise MalformedError(
            f"{reader.where}: {np.count_nonzero(is_entry)} gaps, expected {num_entries}, the last "
            "of them at the end"
        )
    advance = np.where(is_entry, gaps.astype(np.int64) + 1, SKIP)
    positions = np.cumsum(advance)[is_entry] - 1
    if num_entries and positions[-1] >= num_weights:
        raise MalformedError(
            f"{reader.where}: an entry after the last weight, at {positions[-1]} of {num_weights}"
        )
    flat = np.zeros(num_weights, np.uint8)
    flat[positions] = symbols
    return flat


def _gap_symbols(positions: npt.NDArray[np.int64]) -> UInt8Array:
    """Return the numbers of zeros between positions as gap symbols, long gaps with skips."""
    gaps = np.diff(positions, prepend=-1) - 1
    num_skips = gaps // SKIP
    total = np.cumsum(num_skips + 1)
    symbols = np.full(int(total[-1]) if total.size else 0, SKIP, np.uint8)
    symbols[total - 1] = (gaps % SKIP).astype(np.uint8)
    return symbols


def _stream(symbols: UInt8Array, alphabet: int) -> tuple[bytes, int]:
    """Return code lengths and coded symbols, and the number of bits of the latter."""
    frequencies = huffman_codes.frequencies(symbols, alphabet)
    lengths = huffman_codes.code_lengths(frequencies)
    data = huffman_codes.encode(symbols, lengths)
    nibbles = lengths[0::2] | (lengths[1::2] << 4)
    stream = nibbles.astype(np.uint8).tobytes() + struct.pack("<I", len(data)) + data
    return stream, huffman_codes.num_bits(frequencies, lengths)


def _read_stream(reader: ByteReader, num_symbols: int, alphabet: int) -> UInt8Array:
    nibbles = np.frombuffer(reader.take(alphabet // 2), np.uint8)
    lengths = np.stack([nibbles & 15, nibbles >> 4], axis=1).reshape(-1)
    (num_bytes,) = reader.unpack("<I")
    return huffman_codes.decode(reader.take(num_bytes), num_symbols, lengths)
