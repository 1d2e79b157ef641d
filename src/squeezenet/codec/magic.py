"""What every ``.sqz`` file has: how it begins and how large it may be. Light: without NumPy."""

from __future__ import annotations

from pathlib import Path

from squeezenet.errors import LimitError, UsageError

MAGIC = b"\x89SQZ\r\n\x1a\n"
MAX_FILE_BYTES = 1 << 28
"""What a reader may have to hold; the most weights take 151 MB raw."""


def read_file(path: Path) -> bytes:
    """Return the bytes of a file that may be a ``.sqz``.

    Raises:
        UsageError: there is no such file.
        LimitError: it is too large for one; nothing is read.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise LimitError(f"{path}: {size} bytes, expected at most {MAX_FILE_BYTES} in a .sqz")
    return path.read_bytes()
