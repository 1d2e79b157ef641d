"""Files that are read back carry a checksum: what was damaged is noticed, never used.

A binary file ends with a line ``sha256 HEX`` over all bytes before it, which ``torch.load`` and
``numpy.load`` pass over. A JSON file has a key ``sha256``, a line of a ``.jsonl`` file a key
``crc32``, over the canonical JSON of the rest. Checksums find damage; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from squeezenet.files import write_atomically, write_bytes_atomically

MAX_BINARY_BYTES = 1 << 33
"""Eight times the largest model file: a checkpoint holds weights, optimiser state and average."""
MAX_JSON_BYTES = 1 << 20
"""The settings of a run have 3 KB."""
MAX_LINE_BYTES, MAX_LINES_BYTES = 1 << 12, 1 << 24
"""A line of metrics has 100 bytes; the longest recipe of 170,000 steps writes 1 MB of them."""
_LABEL = b"\nsha256 "
_TRAILER_BYTES = len(_LABEL) + 64 + 1
_CHUNK_BYTES = 1 << 20
_SHA256, _CRC32 = "sha256", "crc32"


class _HashingFile:
    """A file that is written once, from its beginning to its end, and hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def seal(self) -> None:
        self._file.write(_LABEL + self._hash.hexdigest().encode() + b"\n")


def write_sealed(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill the file atomically, and end it with its checksum.

    ``write`` may only call ``write`` and ``flush``.

    Raises:
        OSError: see ``write_atomically``.
    """

    def write_all(file: BinaryIO) -> None:
        hashing = _HashingFile(file)
        write(cast(BinaryIO, hashing))
        hashing.seal()

    write_atomically(path, write_all)


def open_sealed(path: Path) -> BinaryIO | None:
    """Open what ``write_sealed`` wrote, at its first byte; None if it is damaged or not there."""
    try:
        if not path.is_file():
            return None  # a pipe would wait for ever
        file = path.open("rb")
    except OSError:
        return None
    try:
        if _is_whole(file):
            file.seek(0)
            return file
    except OSError:
        pass  # a failing disk
    file.close()
    return None


def read_sealed(path: Path) -> bytes | None:
    """Return the bytes that ``write_sealed`` wrote; None if they are damaged or not there."""
    file = open_sealed(path)
    if file is None:
        return None
    with file:
        return file.read()[:-_TRAILER_BYTES]


def _is_whole(file: BinaryIO) -> bool:
    left = os.fstat(file.fileno()).st_size - _TRAILER_BYTES
    if not 0 <= left <= MAX_BINARY_BYTES:
        return False
    digest = hashlib.sha256()
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            return False
        digest.update(chunk)
        left -= len(chunk)
    return file.read() == _LABEL + digest.hexdigest().encode() + b"\n"


def write_sealed_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum atomically.

    Raises:
        OSError: see ``write_atomically``.
    """
    sealed = {**data, _SHA256: _sha256(data)}
    write_bytes_atomically(path, json.dumps(sealed, indent=1).encode())


def read_sealed_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any] | None:
    """Return what ``write_sealed_json`` wrote; None if it is damaged, too large or not there."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
        data = json.loads(text) if len(text) <= max_bytes else None
        if isinstance(data, dict) and data.pop(_SHA256, None) == _sha256(data):
            return data
    except (OSError, ValueError, RecursionError):
        pass
    return None


def sealed_line(values: Mapping[str, Any]) -> str:
    """Return a JSON object with its checksum as one line."""
    return json.dumps({**values, _CRC32: _crc32(values)}) + "\n"


def read_sealed_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a file that are whole, and the number of those that are not.

    Lines of more than ``MAX_LINE_BYTES`` are not whole, nor is all after ``MAX_LINES_BYTES``, which
    counts as one line. There are no lines if there is no file.
    """
    try:
        if not path.is_file():
            return [], 0
        with path.open("rb") as file:
            text = file.read(MAX_LINES_BYTES + 1)
    except OSError:
        return [], 0
    lines, num_bad = [], int(len(text) > MAX_LINES_BYTES)
    for line in filter(None, text[:MAX_LINES_BYTES].split(b"\n")):
        values = _parsed_line(line)
        if values is None:
            num_bad += 1
        else:
            lines.append(values)
    return lines, num_bad


def _parsed_line(line: bytes) -> dict[str, Any] | None:
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        data = json.loads(line)
        if isinstance(data, dict) and data.pop(_CRC32, None) == _crc32(data):
            return data
    except (ValueError, RecursionError):
        pass
    return None


def _canonical(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(data)).hexdigest()


def _crc32(data: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(_canonical(data)):08x}"
