"""Bytes of a ``.sqz`` file, put together clause by clause as spec/FORMAT.md, without any check.

A second writer beside ``squeezenet.codec``: good numbers give the same bytes (``accepted.py``
holds it to that), and any others can be written as well (``rejected.py`` needs them). Only the
oracle of the range coder is shared.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from squeezenet.codec.range_coder import NUMBERS, SLOT_CONTEXTS, Encoder

MAGIC = b"\x89SQZ\r\n\x1a\n"
HEADER_BYTES, ENTRY_BYTES, CRC_BYTES = 28, 12, 4
GRAPH, INPUT, WEIGHTS, LABELS, RECORD, ACTIVATIONS = range(1, 7)
FIRST_VALUE, NEXT_VALUE, EXPONENT, SCALE, SHIFT, BIAS = (
    NUMBERS + SLOT_CONTEXTS * i for i in range(6)
)


def count(value: int, num_bytes: int = 1) -> bytes:
    """Return a count, in more bytes than it needs if ``num_bytes`` says so."""
    data = bytearray()
    while value > 127 or len(data) < num_bytes - 1:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


@dataclass(kw_only=True)
class Network:
    """GRAPH as numbers: (channels, height, width) a tensor; the code and the counts of an
    operation."""

    tensors: list[list[int]]
    operations: list[list[int]]

    def to_bytes(self) -> bytes:
        values = [len(self.tensors), *(n for shape in self.tensors for n in shape)]
        values += [len(self.operations), *(n for op in self.operations for n in op)]
        return b"".join(map(count, values))

    @staticmethod
    def of(data: bytes) -> Network:
        """Take a good GRAPH apart."""
        values = _counts(data)
        tensors = [[next(values) for _ in range(3)] for _ in range(next(values))]
        operations = []
        for _ in range(next(values)):
            code = next(values)
            operations.append([code, *(next(values) for _ in range(_NUM_COUNTS[code]))])
        return Network(tensors=tensors, operations=operations)


_NUM_COUNTS = {1: 10, 2: 4, 3: 3, 4: 2, 5: 3}


def _counts(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


@dataclass(kw_only=True)
class Channel:
    """One output channel: its levels or codes, and what stands before them. ``bias`` is q for
    levels; for codes (exponent, sign, mantissa)."""

    row: list[int]
    scale: int = 0
    bias: int | tuple[int, int, int] = 0


@dataclass(kw_only=True)
class Layer:
    """One convolution. ``shift`` is for levels; for a codebook the magnitudes are given as what
    is left of their float32 bits, and ``mantissa``, ``bias_mantissa`` are the two m."""

    inputs: int
    kernel: tuple[int, int]
    channels: list[Channel]
    representation: int = 1
    raw: bool = False
    shift: int = 0
    mantissa: int = 0
    negatives: list[int] = field(default_factory=list)
    positives: list[int] = field(default_factory=list)
    bias_mantissa: int = 0


def weights(layers: Sequence[Layer]) -> bytes:
    """Return the stream of all layers, without the byte that names the coder."""
    coder = Encoder()
    shift = scale = exponent = 0
    for layer in layers:
        coder.plain(2, layer.representation)
        coder.plain(1, layer.raw)
        coder.begin(layer.inputs, *layer.kernel)
        if layer.representation == 0:
            _codebook(coder, layer)
        else:
            coder.number(SHIFT, layer.shift - shift)
            shift = layer.shift
        for channel in layer.channels:
            if isinstance(channel.bias, tuple):
                to, sign, mantissa = channel.bias
                coder.number(EXPONENT, to - exponent)
                coder.plain(1, sign)
                coder.plain(layer.bias_mantissa, mantissa)
                exponent = to
            else:
                coder.number(SCALE, channel.scale - scale)
                coder.number(BIAS, channel.bias)
                scale = channel.scale
            if layer.raw:
                for level in channel.row:
                    coder.plain(9, level + 256)
            elif layer.representation == 2:
                coder.channel(_codes(channel.row))
            else:
                coder.channel(list(channel.row))
    return coder.finish()


def _codes(levels: Sequence[int]) -> list[int]:
    """Half of each level on the trellis, and of an odd one half of what is one further from 0."""
    codes: list[int] = []
    state = 0
    for level in levels:
        magnitude = (abs(level) + state % 2) // 2
        codes.append(magnitude if level > 0 else -magnitude)
        state = _NEXT_STATE[2 * state + magnitude % 2]
    return codes


_NEXT_STATE = (0, 2, 5, 7, 1, 3, 6, 4, 2, 0, 4, 6, 3, 1, 7, 5)


def _codebook(coder: Encoder, layer: Layer) -> None:
    coder.plain(5, layer.mantissa)
    coder.plain(8, len(layer.negatives))
    coder.plain(8, len(layer.positives))
    for keys in (layer.negatives, layer.positives):
        for i, key in enumerate(keys):
            coder.number(*((NEXT_VALUE, key - keys[i - 1]) if i else (FIRST_VALUE, key)))
    coder.plain(5, layer.bias_mantissa)


def text(data: bytes, num_bytes: int | None = None) -> bytes:
    """Return a text, with another number of bytes before it if one is given."""
    coder = Encoder()
    before = 0
    for byte in data:
        before = coder.byte(before, byte)
    length = len(data) if num_bytes is None else num_bytes
    return struct.pack("<I", length) + coder.finish()


@dataclass(kw_only=True)
class Section:
    """An entry of the section table and its bytes; None is what they come to."""

    kind: int
    body: bytes
    flags: int | None = None
    reserved: int = 0
    num_bytes: int | None = None
    crc: int | None = None

    def entry(self) -> bytes:
        flags = self.kind in (GRAPH, INPUT, WEIGHTS) if self.flags is None else self.flags
        num_bytes = len(self.body) if self.num_bytes is None else self.num_bytes
        crc = zlib.crc32(self.body) if self.crc is None else self.crc
        return struct.pack("<BBHII", self.kind, flags, self.reserved, num_bytes, crc)


@dataclass(kw_only=True)
class File:
    """A whole file; ``needs`` are the header's three numbers of the network, None is what the
    rest comes to, and the checksums are added to ``header_crc`` and ``file_crc``."""

    needs: list[int]
    sections: list[Section]
    magic: bytes = MAGIC
    version: int = 1
    num_sections: int | None = None
    reserved: int = 0
    num_bytes: int | None = None
    header_crc: int = 0
    file_crc: int = 0

    def section(self, kind: int) -> Section:
        """Return the one of a kind."""
        [found] = [section for section in self.sections if section.kind == kind]
        return found

    def to_bytes(self) -> bytes:
        table = b"".join(section.entry() for section in self.sections)
        body = b"".join(section.body for section in self.sections)
        whole = HEADER_BYTES + len(table) + CRC_BYTES + len(body) + CRC_BYTES
        num_sections = len(self.sections) if self.num_sections is None else self.num_sections
        num_bytes = whole if self.num_bytes is None else self.num_bytes
        data = self.magic + struct.pack(
            "<BBHIIII", self.version, num_sections, self.reserved, num_bytes, *self.needs
        )
        data = _sealed(data + table, self.header_crc) + body
        return _sealed(data, self.file_crc)

    @staticmethod
    def of(data: bytes) -> File:
        """Take a good file apart."""
        num_sections = data[9]
        place = HEADER_BYTES + ENTRY_BYTES * num_sections + CRC_BYTES
        sections = []
        for i in range(num_sections):
            kind, flags, _, size, _ = struct.unpack_from(
                "<BBHII", data, HEADER_BYTES + ENTRY_BYTES * i
            )
            sections.append(Section(kind=kind, flags=flags, body=data[place : place + size]))
            place += size
        needs = list(struct.unpack_from("<III", data, 16))
        return File(needs=needs, sections=sections, version=data[8])


def _sealed(data: bytes, change: int) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data) ^ change)
