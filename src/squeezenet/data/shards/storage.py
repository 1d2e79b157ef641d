"""Where shards lie, and reading bytes of them at any offset."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from squeezenet.data.shards.index import Shard
from squeezenet.errors import ImageError

MAX_OPEN_SHARDS = 32
"""Files that a process keeps open: more than the 8 that an epoch reads from at a time."""


class ShardStorage(Protocol):
    """A place of shards. Must be picklable: worker processes read from it."""

    @property
    def title(self) -> str:
        """The folder or URL, for messages."""

    def file(self, shard: Shard) -> Path:
        """Return a local file of a shard.

        Raises:
            ImageError: there is none; the message is the reason alone.
        """

    def expect(self, windows: Sequence[Sequence[Shard]]) -> None:
        """Take note of which shards will be read, those of the first window first."""


class LocalShards:
    """Shards in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def title(self) -> str:
        return str(self._folder)

    def file(self, shard: Shard) -> Path:
        return self._folder / shard.name

    def expect(self, windows: Sequence[Sequence[Shard]]) -> None:
        return None


class ShardReader:
    """Reads from the shards of a storage, of which a few are kept open in each process."""

    def __init__(self, storage: ShardStorage) -> None:
        self.storage = storage
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "_files": OrderedDict()}

    def read(self, shard: Shard, offset: int, num_bytes: int) -> bytes:
        """Return bytes of a shard.

        Raises:
            ImageError: the shard is missing, cannot be read, or ends before; the message is the
                reason alone.
        """
        try:
            file = self._file(shard)
            file.seek(offset)
            content = file.read(num_bytes)
            if len(content) < num_bytes:
                size = os.fstat(file.fileno()).st_size
                raise ImageError(
                    f"has {size:,} bytes, expected {shard.num_bytes:,}; it was cut off or replaced"
                )
        except FileNotFoundError:
            raise ImageError("no such file") from None
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from None
        return content

    def _file(self, shard: Shard) -> BinaryIO:
        file = self._files.pop(shard.name, None)
        if file is None:
            while len(self._files) >= MAX_OPEN_SHARDS:
                self._files.popitem(last=False)[1].close()
            file = self.storage.file(shard).open("rb", buffering=0)
        self._files[shard.name] = file  # the last one used is the last
        return file
