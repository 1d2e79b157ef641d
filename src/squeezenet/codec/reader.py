"""The only place where bytes of a file are taken, so the only place where bounds are checked."""

from __future__ import annotations

import struct
from typing import Any

from squeezenet.errors import MalformedError


class ByteReader:
    """Reads bytes from the front of a buffer; ``where`` names the buffer in errors."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._position = 0
        self.where = where

    def take(self, num_bytes: int) -> bytes:
        """Return the next bytes.

        Raises:
            MalformedError: there are fewer left.
        """
        left = len(self._data) - self._position
        if num_bytes > left:
            raise MalformedError(f"{self.where}: {left} bytes are left, expected {num_bytes}")
        start = self._position
        self._position += num_bytes
        return self._data[start : self._position]

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        return self.take(len(self._data) - self._position)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Return the values of a ``struct`` layout.

        Raises:
            MalformedError: there are fewer bytes left.
        """
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def finish(self) -> None:
        """Check that all bytes have been read.

        Raises:
            MalformedError: some are left.
        """
        left = len(self._data) - self._position
        if left:
            raise MalformedError(f"{self.where}: {left} bytes too many, expected the end")
