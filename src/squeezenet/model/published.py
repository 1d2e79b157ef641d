"""Weights that others published: their names, URLs and hashes, and the cache.

A download goes to ``NAME.part`` and resumes from there after an interruption. The file gets its
final name only after its SHA-256 was verified. torchvision publishes only 8 hex digits of it: the
rest is trusted at the first use and kept, in ``NAME.first.json``. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from squeezenet.download import cache_folder, fetch_file, open_own, require_http
from squeezenet.errors import FetchError, UnknownNameError
from squeezenet.files import write_bytes_atomically
from squeezenet.progress import Progress, SilentProgress

MAX_BYTES = 16 << 20
"""Most bytes of a published file whose size was not published: three times the weights of the
largest in float32."""
_SHA256_DIGITS = 64
_MAX_RECORD_BYTES = 1000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A published file.

    ``sha256`` is the hash in hex, or the prefix of it that was published: torchvision puts 8 hex
    digits into the file's name. ``about`` is one line for a list. A download of more than
    ``max_bytes`` is broken off.
    """

    url: str
    sha256: str
    file_name: str
    about: str
    max_bytes: int = MAX_BYTES


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
        max_bytes=675_763,
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
        raise FetchError(
            f"{error}, or put {weights.file_name} (SHA-256 {weights.sha256[:8]}...) into {folder}, "
            "or name a model file of your own with --from FILE"
        ) from None


def fetch(
    weights: PublishedWeights,
    folder: Path,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a file into ``folder`` unless it is there already; verify it; return its path.

    ``mirror`` is the URL of a folder that has the file under its own name. Of a file whose hash was
    published in part, the full one of the first copy is kept beside it and holds from then on.

    Raises:
        FetchError: no connection, a server's refusal, or a wrong hash.
    """
    progress = progress or SilentProgress()
    url = f"{mirror.rstrip('/')}/{weights.file_name}" if mirror else weights.url
    require_http(url)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / weights.file_name
    if _is_there(weights, target, progress):
        return target
    found: list[_Content] = []

    def fault(part: BinaryIO) -> str | None:
        found.append(_content_of(part))
        return _fault(weights, target, found[0])

    fetch_file(
        url,
        target,
        max_bytes=weights.max_bytes,
        is_there=lambda: _is_there(weights, target, progress),
        fault=fault,
        progress=progress,
    )
    if found:
        _keep(weights, target, found[0], progress)
    return target


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What a file has: its SHA-256 in hex, and its size."""

    sha256: str
    num_bytes: int


def _is_there(weights: PublishedWeights, target: Path, progress: Progress) -> bool:
    """Whether the file is there and is the right one; one that is not is never replaced."""
    try:
        with open_own(target) as file:
            found = _content_of(file)
    except FileNotFoundError:
        return False
    fault = _fault(weights, target, found)
    if fault is not None:
        raise FetchError(f"{target}: {fault}; remove it to download it anew")
    _keep(weights, target, found, progress)
    return True


def _fault(weights: PublishedWeights, target: Path, found: _Content) -> str | None:
    """What is wrong with a content, if anything is."""
    if not found.sha256.startswith(weights.sha256):
        return f"SHA-256 is {found.sha256}, expected it to begin {weights.sha256}"
    first = _first_content(target)
    if first is not None and first != found:
        return (
            f"{found.num_bytes} bytes with SHA-256 {found.sha256}, but the first copy had "
            f"{first.num_bytes} with {first.sha256}, as {_record_of(target).name} says"
        )
    return None


def _keep(weights: PublishedWeights, target: Path, found: _Content, progress: Progress) -> None:
    """Keep the content of the first copy, if only a part of its hash was published."""
    record = _record_of(target)
    if len(weights.sha256) == _SHA256_DIGITS or _first_content(target) is not None:
        return
    text = json.dumps({"sha256": found.sha256, "bytes": found.num_bytes}, indent=1) + "\n"
    write_bytes_atomically(record, text.encode())
    progress.log(
        f"{target.name}: {len(weights.sha256)} of {_SHA256_DIGITS} digits of its SHA-256 are "
        f"published; this copy's, {found.sha256}, is kept in {record} and holds from now on"
    )


def _first_content(target: Path) -> _Content | None:
    """Read what the first copy of a file was; None if there was none."""
    record = _record_of(target)
    try:
        with open_own(record) as file:
            read = json.loads(file.read(_MAX_RECORD_BYTES))
        return _Content(sha256=str(read["sha256"]), num_bytes=int(read["bytes"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise FetchError(
            f"{record}: is damaged, expected the SHA-256 and bytes of the first copy; remove it if "
            f"you trust {target.name}"
        ) from None


def _record_of(target: Path) -> Path:
    return target.with_name(target.name + ".first.json")


def _content_of(file: BinaryIO) -> _Content:
    file.seek(0)
    digest, num_bytes = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        num_bytes += len(chunk)
    return _Content(sha256=digest.hexdigest(), num_bytes=num_bytes)
