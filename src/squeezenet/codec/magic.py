"""The first bytes and the size limit of ``.sqz`` files. Imports no NumPy, to start fast."""

from __future__ import annotations

from pathlib import Path

from squeezenet.errors import LimitError, UsageError

MAGIC = b"\x89SQZ\r\n\x1a\n"
"""As PNG's magic: it shows transfers that clear the eighth bit or change line ends."""
MAX_FILE_BYTES = 1 << 28
"""spec/FORMAT.md, "Limits". The max number of weights, 2^27, takes 151 MB in 9 bits each."""


def read_file(path: Path) -> bytes:
    """Return the bytes of a file that may be a ``.sqz``.

    Raises:
        UsageError: there is no such file.
        LimitError: it is larger than ``MAX_FILE_BYTES``; nothing is read.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise LimitError(f"{path}: {size} bytes, expected at most {MAX_FILE_BYTES} in a .sqz")
    return path.read_bytes()
