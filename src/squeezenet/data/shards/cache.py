"""The folder of shards that were downloaded: each once per machine, verified, and not for ever.

A file is named by its SHA-256, so the same shard of two addresses is one file. When there are more
bytes than ``SQUEEZENET_SHARD_CACHE`` says, those that were used least recently go. Only files of
such names are ever removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

from squeezenet.download import cache_folder, fetch_file
from squeezenet.errors import UsageError
from squeezenet.files import make_folder
from squeezenet.images.limits import parse_bytes
from squeezenet.progress import SilentProgress

VARIABLE = "SQUEEZENET_SHARD_CACHE"
"""Environment variable: the bytes of the cache, such as 200G."""
DEFAULT_CACHE_BYTES = 32 << 30
"""Eight times the two windows of 2 GB that an epoch needs at a time."""
_OURS = re.compile(r"[0-9a-f]{64}\.(tar|bin)(\.part)?")
_ABANDONED_S = 24 * 3600
"""A part of a download that was not written to for so long is nobody's."""
_NEVER_OPENED = 1
"""The time of change, in nanoseconds, of a file that no reader has opened."""


class ShardCache:
    """The cache of this user and machine; ``max_bytes`` is about what it holds at most."""

    def __init__(self, folder: Path | None = None, max_bytes: int | None = None) -> None:
        self.folder = folder or cache_folder() / "shards"
        self.max_bytes = _limit() if max_bytes is None else max_bytes

    def has(self, name: str, num_bytes: int) -> bool:
        """Whether a file is there with all of its bytes."""
        try:
            return (self.folder / name).stat().st_size == num_bytes
        except OSError:
            return False

    def fetch(self, url: str, name: str, num_bytes: int, pauses_s: tuple[float, ...]) -> Path:
        """Return a file of the cache, downloaded from ``url`` if it is not there.

        ``name`` is its SHA-256 and an ending.

        Raises:
            FetchError: it cannot be downloaded, or is not the file of that name.
            OSError: the cache cannot be written.
        """
        assert _OURS.fullmatch(name)
        path = self.folder / name
        if self.has(name, num_bytes):
            return path
        make_folder(self.folder)
        self._make_room(num_bytes)

        was_fetched = False

        def fault(part: BinaryIO) -> str | None:
            nonlocal was_fetched
            was_fetched = True
            size = os.fstat(part.fileno()).st_size
            if size != num_bytes:
                return f"has {size:,} bytes, expected {num_bytes:,}"
            found = hashlib.file_digest(cast(Any, part), "sha256").hexdigest()
            expected = name.partition(".")[0]
            return None if found == expected else f"SHA-256 is {found}, expected {expected}"

        fetch_file(
            url,
            path,
            max_bytes=num_bytes,
            is_there=lambda: self.has(name, num_bytes),
            fault=fault,
            progress=SilentProgress(),
            pauses_s=pauses_s,
        )
        if was_fetched:
            with contextlib.suppress(OSError):
                os.utime(path, ns=(time.time_ns(), _NEVER_OPENED))
        return path

    def open(self, name: str) -> int:
        """Return a descriptor of a file, and note that it was used.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        descriptor = os.open(self.folder / name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        with contextlib.suppress(OSError):
            os.utime(self.folder / name)
        return descriptor

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        assert _OURS.fullmatch(name)
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()

    def opened_ns(self, name: str) -> int:
        """Return when a file was last opened by a reader, 0 if it is not there."""
        try:
            return (self.folder / name).stat().st_mtime_ns
        except OSError:
            return 0

    def _make_room(self, num_bytes: int) -> None:
        """Remove what was used least recently, until so many bytes more are within the limit."""
        known = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if not _OURS.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    is_part = entry.name.endswith(".part")
                    if is_part and time.time() - found.st_mtime < _ABANDONED_S:
                        continue  # somebody is writing it
                    used = 0.0 if is_part else max(found.st_atime, found.st_mtime)
                    known.append((used, found.st_size, entry.name))
        total = sum(size for _, size, _ in known) + num_bytes
        for _, size, name in sorted(known):
            if total <= self.max_bytes:
                return
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
                total -= size


def _limit() -> int:
    text = os.environ.get(VARIABLE)
    if not text:
        return DEFAULT_CACHE_BYTES
    found = parse_bytes(text)
    if not found:
        raise UsageError(f"{VARIABLE}={text}, expected a number of bytes, such as 200G")
    return found
