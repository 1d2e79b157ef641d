"""Where shards lie, and reading bytes of them at any offset."""

from __future__ import annotations

import os
import sys
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from squeezenet.data.shards.index import Shard
from squeezenet.errors import ImageError

MAX_OPEN_SHARDS = 32
"""Files that a process keeps open: more than the 8 that an epoch reads from at a time."""


class ShardStorage(Protocol):
    """A place of shards. Must be picklable: worker processes read from it."""

    @property
    def title(self) -> str:
        """The folder or URL, for messages."""

    def open(self, shard: Shard) -> int:
        """Return a descriptor to read a shard by.

        Raises:
            ImageError: it cannot be fetched; the message is the reason alone.
            OSError: it cannot be opened.
        """

    def distrust(self, shard: Shard) -> bool:
        """Take note that a shard was found damaged; return whether it may be whole now."""

    def expect(self, windows: Sequence[Sequence[Shard]]) -> None:
        """Take note of which shards will be read, those of the first window first."""


class LocalShards:
    """Shards in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def title(self) -> str:
        return str(self._folder)

    def open(self, shard: Shard) -> int:
        # Never waits, if the name is a pipe's.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        return os.open(self._folder / shard.name, flags)

    def distrust(self, shard: Shard) -> bool:
        return False

    def expect(self, windows: Sequence[Sequence[Shard]]) -> None:
        return None


class ShardReader:
    """Reads from the shards of a storage, of which a few are kept open in each process."""

    def __init__(self, storage: ShardStorage) -> None:
        self.storage = storage
        self._descriptors: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "_descriptors": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in getattr(self, "_descriptors", {}).values():  # none if pickling failed
            os.close(descriptor)

    def read_sample(self, shard: Shard, offset: int, num_bytes: int, crc32: int) -> bytes:
        """Return the bytes of an image, which have this CRC-32.

        Raises:
            ImageError: see ``read``; or the bytes are others.
        """
        content = self.read(shard, offset, num_bytes)
        if zlib.crc32(content) != crc32 and self.storage.distrust(shard):
            os.close(self._descriptors.pop(shard.name))
            content = self.read(shard, offset, num_bytes)
        if zlib.crc32(content) != crc32:
            raise ImageError("is damaged: bytes differ from those that were indexed")
        return content

    def read(self, shard: Shard, offset: int, num_bytes: int) -> bytes:
        """Return bytes of a shard.

        Raises:
            ImageError: the shard is missing, cannot be read, or ends before; the message is the
                reason alone.
        """
        try:
            descriptor = self._descriptor(shard)
            content = _read_at(descriptor, num_bytes, offset)
            if len(content) < num_bytes:
                size = os.fstat(descriptor).st_size
                raise ImageError(
                    f"has {size:,} bytes, expected {shard.num_bytes:,}; it was cut off or replaced"
                )
        except FileNotFoundError:
            raise ImageError("no such file") from None
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from None
        return content

    def _descriptor(self, shard: Shard) -> int:
        descriptor = self._descriptors.pop(shard.name, None)
        if descriptor is None:
            while len(self._descriptors) >= MAX_OPEN_SHARDS:
                os.close(self._descriptors.popitem(last=False)[1])
            descriptor = self.storage.open(shard)
        self._descriptors[shard.name] = descriptor  # the last one used is the last
        return descriptor


if sys.platform == "win32":

    def _read_at(descriptor: int, num_bytes: int, offset: int) -> bytes:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, num_bytes)

else:

    def _read_at(descriptor: int, num_bytes: int, offset: int) -> bytes:
        return os.pread(descriptor, num_bytes, offset)
