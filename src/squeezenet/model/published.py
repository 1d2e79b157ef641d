"""Weights that others published: their names, URLs and hashes, the download and the cache.

A download goes to ``NAME.part`` and resumes from there after an interruption. The file gets its
final name only after its SHA-256 was verified. Standard library only.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from squeezenet.errors import FetchError, UnknownNameError
from squeezenet.files import sync_folder
from squeezenet.progress import Progress, SilentProgress

_CHUNK_BYTES = 1 << 16
_ATTEMPTS = 4
"""For downloads that broke off and servers with an internal error; neither a refusal nor a failed
connection is tried again."""
_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A published file.

    ``sha256`` is the hash in hex, or the prefix of it that was published: torchvision puts 8 hex
    digits into the file's name. ``about`` is one line for a list.
    """

    url: str
    sha256: str
    file_name: str
    about: str


PUBLISHED = {
    "squeezenet1_0": PublishedWeights(
        url="https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth",
        sha256="b66bff10",
        file_name="squeezenet1_0-b66bff10.pth",
        about="torchvision, ImageNet, 58.1/80.4",
    ),
    "squeezenet1_1": PublishedWeights(
        url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        sha256="b8a52dc0",
        file_name="squeezenet1_1-b8a52dc0.pth",
        about="torchvision, ImageNet, 58.2/80.6",
    ),
    "compressed_SqueezeNet": PublishedWeights(
        url="https://raw.githubusercontent.com/songhan/SqueezeNet-Deep-Compression/master/"
        "compressed_SqueezeNet.net",
        sha256="e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261",
        file_name="compressed_SqueezeNet.net",
        about="the paper's authors, ImageNet, Deep Compression",
    ),
}


def published(name: str) -> PublishedWeights:
    """Look up published weights.

    Raises:
        UnknownNameError: lists the known names.
    """
    if name not in PUBLISHED:
        raise UnknownNameError(
            f"no published weights {name!r}; expected one of {', '.join(PUBLISHED)}"
        )
    return PUBLISHED[name]


def cache_folder() -> Path:
    """Return the user's cache for published files; ``XDG_CACHE_HOME`` moves it."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "squeezenet"


def published_file(name: str, *, progress: Progress | None = None) -> Path:
    """Return published weights from the cache; download them at the first use.

    Raises:
        UnknownNameError: no published weights have that name.
        FetchError: they are not in the cache and cannot be downloaded; says where to put the file.
    """
    weights, folder = published(name), cache_folder()
    try:
        return fetch(weights, folder, progress=progress)
    except FetchError as error:
        there = (folder / weights.file_name).is_file()
        raise FetchError(
            f"{error}, or put {weights.file_name} (SHA-256 {weights.sha256[:8]}...) into {folder}"
            f"{' (the file there has another SHA-256)' if there else ''}, or name a model file of "
            "your own with --from FILE"
        ) from None


def fetch(
    weights: PublishedWeights,
    folder: Path,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a file into ``folder`` unless it is there already; verify it; return its path.

    ``mirror`` is the URL of a folder that has the file under its own name.

    Raises:
        FetchError: no connection, a server's refusal, or a wrong hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / weights.file_name
    if target.is_file() and _hash_matches(target, weights):
        return target
    url = f"{mirror.rstrip('/')}/{weights.file_name}" if mirror else weights.url
    part = target.with_name(target.name + ".part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _download(url, part, progress or SilentProgress())
            break
        except (http.client.HTTPException, OSError) as error:
            if _is_final(error) or attempt == _ATTEMPTS:
                kept = f"; {part.stat().st_size} bytes are kept to resume" if part.exists() else ""
                raise FetchError(f"{url}: {_reason(error)}{kept}; try again later") from None
    if not _hash_matches(part, weights):
        found = _sha256(part)
        part.unlink()
        raise FetchError(
            f"{url}: SHA-256 is {found}, expected it to begin {weights.sha256}; removed, try again"
        )
    part.replace(target)
    sync_folder(folder)
    return target


def _download(url: str, part: Path, progress: Progress) -> None:
    """Fetch the bytes that ``part`` lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "squeezenet"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code == 416 and have:  # no bytes after those that we have: the hash decides
            return
        raise
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else have
        with (
            part.open("ab" if resumed else "wb") as file,
            progress.task(f"fetch {part.stem}", total=total, unit="B", done=have) as task,
        ):
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                task.advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if length and have < total:
            raise http.client.IncompleteRead(b"", total - have)


def _is_final(error: Exception) -> bool:
    """Whether another attempt right away cannot help: no connection, or a refusal."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500
    return isinstance(error, urllib.error.URLError)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return f"the download broke off ({type(error).__name__})"


def _hash_matches(path: Path, weights: PublishedWeights) -> bool:
    return _sha256(path).startswith(weights.sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
