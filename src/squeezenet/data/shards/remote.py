"""Shards at a URL: their index, and each shard as a whole in the cache when it is needed.

A shard is fetched before it is read, never in pieces: its SHA-256 is known, and images of a few
shards are read together (``ShardImages.epoch_order``). Those of the next window are fetched while
the ones before are read.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from squeezenet.data.shards.cache import VARIABLE, ShardCache
from squeezenet.data.shards.index import (
    INDEX,
    MAX_INDEX_BYTES,
    TABLE,
    IndexHead,
    Shard,
    ShardIndex,
    read_index_head,
    with_samples,
)
from squeezenet.download import download, require_http
from squeezenet.errors import FetchError, ImageError
from squeezenet.progress import SilentProgress

_PAUSES_S = (1.0, 4.0)
"""Before a refused shard is asked for again: a server that restarts, a file that is replaced."""
_FORGET_FAILURE_S = 300.0
"""A shard that could not be fetched is asked for again after so long, and costs nothing before."""
_MAX_FAILURES_IN_A_ROW = 3
"""Shards that no answer came for, after which the others are not asked for either for that time."""
_POLL_S = 0.5


class RemoteShards:
    """The shards at ``url``, in the cache of this machine; ``shards`` are all of them, in order."""

    def __init__(
        self, url: str, shards: Sequence[Shard] = (), cache: ShardCache | None = None
    ) -> None:
        self.url = url
        self._next = {
            one.name: (other, after)
            for one, other, after in zip(shards, shards[1:], shards[2:], strict=False)
        }
        self._latest = ""
        self._cache = cache or ShardCache()
        self._failures: dict[str, tuple[float, str]] = {}
        self._unanswered = 0
        self._distrusted: set[str] = set()
        self._prefetch: _Prefetch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_failures": {}, "_unanswered": 0, "_prefetch": None}

    @property
    def title(self) -> str:
        return shown_url(self.url)

    def open(self, shard: Shard) -> int:
        """Return a descriptor of a shard, fetched if it is not in the cache.

        Raises:
            ImageError: it cannot be fetched; the message is the reason alone.
        """
        self._read_ahead(shard)
        while True:
            self._require(shard)
            try:
                return self._cache.open(_file_name(shard))
            except FileNotFoundError:
                continue  # another process needed the room

    def distrust(self, shard: Shard) -> bool:
        """Remove a shard from the cache, once: it was whole when it came."""
        if shard.name in self._distrusted:
            return False
        self._distrusted.add(shard.name)
        self._cache.remove(_file_name(shard))
        return True

    def expect(self, windows: Sequence[Sequence[Shard]]) -> None:
        """Fetch shards ahead of those that readers have opened, in a thread of this process."""
        if self._prefetch is not None:
            self._prefetch.stop()
        self._prefetch = _Prefetch(self, windows)

    def _read_ahead(self, shard: Shard) -> None:
        """Fetch the shard after this one, if this one is the next of the one before: evaluation."""
        following, after = self._next.get(self._latest, (None, None))
        self._latest = shard.name
        if shard == following and after is not None and self.fits((shard, after)):
            threading.Thread(target=self._try_to_fetch, args=(after,), daemon=True).start()

    def _try_to_fetch(self, shard: Shard) -> None:
        with contextlib.suppress(ImageError):  # whoever reads it says so
            self._require(shard)

    def is_new(self, shard: Shard, since_ns: int) -> bool:
        """Whether a reader of any process has opened a shard since then."""
        return self._cache.opened_ns(_file_name(shard)) > since_ns

    def fits(self, shards: Sequence[Shard]) -> bool:
        """Whether the cache has room for all of these."""
        return sum(shard.num_bytes for shard in shards) <= self._cache.max_bytes

    def fetch(self, shard: Shard) -> None:
        """Bring a shard into the cache.

        Raises:
            FetchError, OSError: see ``ShardCache.fetch``.
        """
        url = file_url(self.url, shard.name)
        self._cache.fetch(url, _file_name(shard), shard.num_bytes, _PAUSES_S)

    def _require(self, shard: Shard) -> None:
        if self._cache.has(_file_name(shard), shard.num_bytes):
            return
        failed_at, reason = self._failures.get(shard.name, (0.0, ""))
        if reason and time.monotonic() - failed_at < _FORGET_FAILURE_S:
            raise ImageError(reason)
        if self._unanswered >= _MAX_FAILURES_IN_A_ROW:
            latest = max(at for at, _ in self._failures.values())
            if time.monotonic() - latest < _FORGET_FAILURE_S:
                raise ImageError("was not asked for, as the server did not answer for others")
        url = file_url(self.url, shard.name)
        try:
            self.fetch(shard)
        except FetchError as error:
            self._unanswered += error.status is None
            reason = f"cannot be fetched ({str(error).removeprefix(f'{url}: ')})"
        except OSError as error:
            reason = (
                f"cannot be kept in {self._cache.folder} ({error.strerror}); {VARIABLE} bounds the "
                "cache"
            )
        else:
            self._unanswered = 0
            return
        self._failures[shard.name] = time.monotonic(), reason
        raise ImageError(reason)


class _Prefetch:
    """A thread that keeps one window ahead of what readers have opened."""

    def __init__(self, shards: RemoteShards, windows: Sequence[Sequence[Shard]]) -> None:
        self._shards = shards
        self._windows = windows
        self._since_ns = time.time_ns()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        at = -1
        while not self._stopped.wait(_POLL_S):
            # A run that is resumed begins in the middle: nothing is fetched before it is known.
            opened = [
                k
                for k in range(max(0, at), len(self._windows))
                if any(self._shards.is_new(shard, self._since_ns) for shard in self._windows[k])
            ]
            if not opened or opened[-1] == at:
                continue
            at = opened[-1]
            ahead = [shard for window in self._windows[at : at + 2] for shard in window]
            if not self._shards.fits(ahead):
                ahead = list(self._windows[at])
            for shard in ahead:
                if self._stopped.is_set():
                    return
                try:
                    self._shards.fetch(shard)
                except (FetchError, OSError):
                    break  # whoever reads it says so
            if at + 2 >= len(self._windows):
                return


def open_remote_head(url: str) -> IndexHead:
    """Fetch ``index.json`` of the shards at a URL.

    Raises:
        FetchError: it cannot be fetched; its ``status`` is the server's.
        DataError: it is damaged, or no index.
    """
    require_http(url)
    with tempfile.TemporaryDirectory(prefix="squeezenet-") as folder:
        path = Path(folder) / INDEX
        with path.open("w+b") as part:
            download(file_url(url, INDEX), part, INDEX, MAX_INDEX_BYTES, SilentProgress())
        return read_index_head(path, shown_url(url))


def open_remote_index(url: str, head: IndexHead, cache: ShardCache | None = None) -> ShardIndex:
    """Fetch ``index.bin``, if it is not in the cache, and return the whole index.

    Raises:
        FetchError: it cannot be fetched, or is another.
        DataError: it does not fit its head.
        OSError: the cache cannot be written.
    """
    cache = cache or ShardCache()
    name = f"{head.table_sha256}.bin"
    path = cache.fetch(file_url(url, TABLE), name, head.table_bytes, _PAUSES_S)
    os.utime(path)
    return with_samples(head, path, shown_url(url))


def file_url(url: str, name: str) -> str:
    """Return the URL of a file in a folder at ``url``; a query stays, as signed URLs have one."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def shown_url(url: str) -> str:
    """Return a URL for messages: without a query or a password, which may be secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _file_name(shard: Shard) -> str:
    return f"{shard.sha256}.tar"
