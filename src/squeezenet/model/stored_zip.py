"""Where the files of a ZIP archive lie that is not compressed, as torch writes them.

The bytes are found by the central directory alone, whose size is bounded before it is read. No
ZIP64: a model file has at most 1 GB. Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12
and 4.3.16.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

_END = struct.Struct("<4s4H2IH")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT = 0xFFFF
MAX_DIRECTORY_BYTES = 1 << 22
"""Enough for 30,000 tensors; torchvision's SqueezeNets have 52."""


class ZipError(ValueError):
    """The bytes are not such an archive."""


class CompressedEntryError(ZipError):
    """The archive has a compressed or encrypted file."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in the archive: ``num_bytes`` bytes; ``header`` is where its local header begins."""

    name: str
    header: int
    num_bytes: int


def read_directory(file: IO[bytes], file_bytes: int) -> dict[str, Entry]:
    """Return the archive's files by name, in the order of its directory.

    Raises:
        ZipError: it is cut short, damaged, or no such archive.
        CompressedEntryError: a file is compressed or encrypted.
    """
    tail_start = max(0, file_bytes - _END.size - _MAX_COMMENT)
    file.seek(tail_start)
    tail = file.read(file_bytes - tail_start)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < _END.size:
        raise ZipError("is an archive that is cut short")
    *_, num_entries, size, start, _ = _END.unpack_from(tail, end)
    if size > MAX_DIRECTORY_BYTES or start + size > tail_start + end:
        raise ZipError("is an archive whose directory is not inside of it")
    file.seek(start)
    directory = file.read(size)
    entries: dict[str, Entry] = {}
    position = 0
    for _ in range(num_entries):
        if position + _ENTRY.size > len(directory):
            raise ZipError("is an archive whose directory is cut short")
        fields = _ENTRY.unpack_from(directory, position)
        signature, flags, method, packed, num_bytes = (fields[i] for i in (0, 3, 4, 8, 9))
        name_bytes, extra_bytes, comment_bytes, header = (fields[i] for i in (10, 11, 12, 16))
        if signature != b"PK\x01\x02":
            raise ZipError("is an archive whose directory is damaged")
        if method != 0 or flags & 1 or packed != num_bytes:
            raise CompressedEntryError("an entry is compressed")
        begin = position + _ENTRY.size
        name = directory[begin : begin + name_bytes].decode("utf-8", "replace")
        if name in entries:
            raise ZipError(f"is an archive with two files {name[:40]!r}")
        entries[name] = Entry(name=name, header=header, num_bytes=num_bytes)
        position = begin + name_bytes + extra_bytes + comment_bytes
    return entries


def find_bytes(file: IO[bytes], file_bytes: int, entry: Entry) -> int:
    """Return where the bytes of a file begin.

    Raises:
        ZipError: they do not lie inside the archive.
    """
    file.seek(entry.header)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        raise ZipError(f"is an archive whose file {entry.name[:40]!r} is elsewhere")
    *_, name_bytes, extra_bytes = _LOCAL.unpack(head)
    start = int(entry.header + _LOCAL.size + name_bytes + extra_bytes)
    if start + entry.num_bytes > file_bytes:
        raise ZipError(f"is an archive whose file {entry.name[:40]!r} is cut short")
    return start
