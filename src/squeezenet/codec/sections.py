"""The outer layer of a ``.sqz`` file: header, table, sections, checksums. spec/FORMAT.md, "File".

Knows the kinds of sections, but not their content.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from squeezenet.arch.graph import MAX_WEIGHTS, Graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.codec.magic import MAGIC, MAX_FILE_BYTES
from squeezenet.codec.range_weights import MAX_WEIGHTS_PER_BYTE
from squeezenet.codec.reader import ByteReader
from squeezenet.errors import (
    ChecksumError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
)

VERSION = 2
"""The newest version of the format."""

# The layouts and limits of spec/FORMAT.md, "File".
_HEADER = struct.Struct("<8sBBHIIII")
_SECTION = struct.Struct("<BBHII")
_CRC = struct.Struct("<I")
_MANDATORY = 1
_MAX_SECTIONS = 16


class Section(IntEnum):
    """The kinds of sections that this version knows, in the order in which they are written."""

    GRAPH = 1
    INPUT = 2
    WEIGHTS = 3
    LABELS = 4
    RECORD = 5
    ACTIVATIONS = 6


_OPTIONAL = {Section.ACTIVATIONS}
_NEEDED_BY_CLIENTS = {Section.GRAPH, Section.INPUT, Section.WEIGHTS}


@dataclass(frozen=True, kw_only=True)
class ClientRequirements:
    """The sizes in the header for which a client must have memory, in levels and activations."""

    num_weights: int
    largest_channel: int
    peak_activations: int

    @staticmethod
    def of(graph: Graph) -> ClientRequirements:
        """Compute the sizes of a network."""
        return ClientRequirements(
            num_weights=sum(conv.num_weights for conv in graph.convs),
            largest_channel=max(conv.num_weights // conv.out_channels for conv in graph.convs),
            peak_activations=peak_activation_bytes(graph),
        )


def pack_sections(
    version: int, requirements: ClientRequirements, sections: Mapping[Section, bytes]
) -> bytes:
    """Return the bytes of a file with these sections, in their order."""
    table = b"".join(
        _SECTION.pack(kind, kind in _NEEDED_BY_CLIENTS, 0, len(body), zlib.crc32(body))
        for kind, body in sections.items()
    )
    body = b"".join(sections.values())
    header = _HEADER.pack(
        MAGIC,
        version,
        len(sections),
        0,
        _HEADER.size + len(table) + _CRC.size + len(body) + _CRC.size,
        requirements.num_weights,
        requirements.largest_channel,
        requirements.peak_activations,
    )
    data = header + table
    data += _CRC.pack(zlib.crc32(data)) + body
    return data + _CRC.pack(zlib.crc32(data))


def read_sections(data: bytes, where: str) -> tuple[ClientRequirements, dict[Section, bytes]]:
    """Check header, checksums and table; return the header's sizes and the known sections.

    Raises:
        UnknownFormatError, TruncatedError, ChecksumError, UnsupportedVersionError,
        MalformedError, LimitError: see spec/FORMAT.md, "Errors".
    """
    num_sections, claimed = _read_header(data, where)
    table_end = _HEADER.size + num_sections * _SECTION.size
    reader = ByteReader(data[table_end + _CRC.size : -_CRC.size], where)
    sections: dict[Section, bytes] = {}
    for i in range(num_sections):
        entry = _SECTION.unpack_from(data, _HEADER.size + i * _SECTION.size)
        number, flags, reserved, num_bytes, crc = entry
        body = reader.take(num_bytes)
        if zlib.crc32(body) != crc:
            raise ChecksumError(f"{where}: wrong checksum of section {number}; copy the file again")
        if reserved or flags > _MANDATORY:
            raise MalformedError(
                f"{where}: section {number} has flags {flags}, reserved {reserved}; expected flags "
                "0 or 1, reserved 0"
            )
        if number not in list(Section):
            if flags:
                raise UnsupportedVersionError(
                    f"{where}: mandatory section {number} is unknown; use a newer squeezenet"
                )
            continue
        kind = Section(number)
        mandatory = kind in _NEEDED_BY_CLIENTS
        if bool(flags) != mandatory:
            raise MalformedError(
                f"{where}: section {kind.name} has flags {flags}, expected {int(mandatory)}"
            )
        if kind in sections:
            raise MalformedError(f"{where}: two sections {kind.name}, expected one")
        sections[kind] = body
    reader.finish()
    missing = [kind.name for kind in Section if kind not in sections and kind not in _OPTIONAL]
    if missing:
        raise MalformedError(f"{where}: section {missing[0]} is missing")
    max_weights = min(MAX_WEIGHTS, MAX_WEIGHTS_PER_BYTE * len(sections[Section.WEIGHTS]))
    if claimed.num_weights > max_weights:
        raise LimitError(
            f"{where}: {claimed.num_weights} weights, expected at most {max_weights} in a file of "
            "its size"
        )
    return claimed, sections


def _read_header(data: bytes, where: str) -> tuple[int, ClientRequirements]:
    """Check magic, version, length and both checksums; return the number of sections, and sizes."""
    if not data.startswith(MAGIC):
        if data and MAGIC.startswith(data[: len(MAGIC)]):
            raise TruncatedError(f"{where}: {len(data)} bytes, expected more; copy it again")
        raise UnknownFormatError(f"{where}: not a .sqz file: it does not begin with {MAGIC!r}")
    if len(data) < _HEADER.size:
        raise TruncatedError(
            f"{where}: {len(data)} bytes, expected at least {_HEADER.size}; copy it again"
        )
    _, version, num_sections, reserved, num_bytes, *sizes = _HEADER.unpack_from(data)
    if not 1 <= version <= VERSION:
        # The header of another version is unknown, also the place of its checksum.
        raise UnsupportedVersionError(
            f"{where}: .sqz version {version}, expected 1 to {VERSION}; "
            + (
                "use a newer squeezenet, or the file is damaged"
                if version > VERSION
                else "version 0 was a draft: make the file again from its weights"
            )
        )
    table_end = _HEADER.size + num_sections * _SECTION.size
    if len(data) < table_end + 2 * _CRC.size:
        raise TruncatedError(
            f"{where}: {len(data)} bytes, expected at least {table_end + 2 * _CRC.size} for "
            f"{num_sections} sections; copy it again"
        )
    if _CRC.unpack_from(data, table_end)[0] != zlib.crc32(data[:table_end]):
        raise ChecksumError(f"{where}: wrong checksum of the header; copy the file again")
    if not 1 <= num_sections <= _MAX_SECTIONS or reserved:
        raise MalformedError(
            f"{where}: header with {num_sections} sections, reserved {reserved}; expected 1 to "
            f"{_MAX_SECTIONS} sections, reserved 0"
        )
    if num_bytes > MAX_FILE_BYTES:
        raise LimitError(f"{where}: claims {num_bytes} bytes, expected at most {MAX_FILE_BYTES}")
    if len(data) < num_bytes:
        raise TruncatedError(f"{where}: {len(data)} bytes, expected {num_bytes}; copy it again")
    if len(data) > num_bytes:
        raise MalformedError(f"{where}: {len(data)} bytes, expected {num_bytes}")
    if _CRC.unpack_from(data, num_bytes - _CRC.size)[0] != zlib.crc32(data[: -_CRC.size]):
        raise ChecksumError(f"{where}: wrong checksum of the file; copy it again")
    return num_sections, ClientRequirements(
        num_weights=sizes[0], largest_channel=sizes[1], peak_activations=sizes[2]
    )
