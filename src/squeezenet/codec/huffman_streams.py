"""Tensors of mostly small, often zero symbols <-> bytes: the replaceable entropy stage.

Two ways of coding, of which each tensor takes the shorter. Sparse, as in the paper: the
symbols that are not zero, and the gaps of zeros before each, with a Huffman code each.
Dense: all symbols, zeros among them, with one.

Layout: u8 way (0 dense, 1 sparse); u32 number of entries; then per stream its code lengths
(256 for symbols, 64 for gaps; 4 bits each, the low nibble first) and u32 bytes, bytes.
"""

from __future__ import annotations

import struct
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
"""Gap symbol that stands for 63 zeros with no weight behind them."""


@dataclass(frozen=True, kw_only=True)
class StreamSizes:
    """Bits that a tensor's entropy-coded streams take, without code lengths and padding."""

    symbol_bits: int
    gap_bits: int


def encode_symbols(symbols: UInt8Array) -> tuple[bytes, StreamSizes]:
    """Code a tensor of any shape, flattened in C order; the shape itself is not stored."""
    flat = symbols.reshape(-1)
    nonzero = flat[flat != 0]
    gaps = _gap_symbols(np.flatnonzero(flat))
    dense, dense_bits = _stream(flat, NUM_SYMBOLS)
    values, value_bits = _stream(nonzero, NUM_SYMBOLS)
    runs, run_bits = _stream(gaps, NUM_GAPS)
    if len(dense) <= len(values) + len(runs):
        head = struct.pack("<BI", _DENSE, flat.size)
        return head + dense, StreamSizes(symbol_bits=dense_bits, gap_bits=0)
    head = struct.pack("<BI", _SPARSE, nonzero.size)
    sizes = StreamSizes(symbol_bits=value_bits, gap_bits=run_bits)
    return head + values + struct.pack("<I", gaps.size) + runs, sizes


def decode_symbols(reader: ByteReader, num_weights: int) -> UInt8Array:
    """Read what ``encode_symbols`` wrote for ``num_weights`` symbols, as a flat array.

    Raises:
        MalformedError: it is no such coding.
    """
    way, num_entries = reader.unpack("<BI")
    if way not in (_DENSE, _SPARSE):
        raise MalformedError(f"{reader.where}: way of coding {way}, expected 0 or 1")
    if num_entries > num_weights or (way == _DENSE and num_entries != num_weights):
        raise MalformedError(f"{reader.where}: {num_entries} entries for {num_weights} weights")
    symbols = _read_stream(reader, num_entries, NUM_SYMBOLS)
    if way == _DENSE:
        return symbols
    if (symbols == 0).any():
        raise MalformedError(f"{reader.where}: a zero among the symbols that are not zero")
    (num_gaps,) = reader.unpack("<I")
    if num_gaps > num_entries + num_weights // SKIP:
        raise MalformedError(f"{reader.where}: {num_gaps} gaps for {num_entries} entries")
    gaps = _read_stream(reader, num_gaps, NUM_GAPS)
    ends = gaps != SKIP
    if int(np.count_nonzero(ends)) != num_entries or (num_gaps and not ends[-1]):
        raise MalformedError(f"{reader.where}: the gaps do not match {num_entries} entries")
    advance = np.where(ends, gaps.astype(np.int64) + 1, SKIP)
    positions = np.cumsum(advance)[ends] - 1
    if num_entries and positions[-1] >= num_weights:
        raise MalformedError(f"{reader.where}: an entry lies behind the end of the tensor")
    flat = np.zeros(num_weights, np.uint8)
    flat[positions] = symbols
    return flat


def _gap_symbols(positions: npt.NDArray[np.int64]) -> UInt8Array:
    """Zeros before each position since the last, as symbols with skips for the long runs."""
    gaps = np.diff(positions, prepend=-1) - 1
    num_skips = gaps // SKIP
    total = np.cumsum(num_skips + 1)
    symbols = np.full(int(total[-1]) if total.size else 0, SKIP, np.uint8)
    symbols[total - 1] = (gaps % SKIP).astype(np.uint8)
    return symbols


def _stream(symbols: UInt8Array, alphabet: int) -> tuple[bytes, int]:
    frequencies = np.bincount(symbols, minlength=alphabet).astype(np.int64)
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
