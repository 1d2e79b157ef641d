"""A fingerprint of images: a run goes on only with the names, labels and contents it began with.

Sets of up to ``MAX_HASHED_BYTES`` are hashed whole, every time. Of a larger one the size and both
ends of each file are hashed when a run begins; later only where the file's size, times or place on
the disk differ from what the run folder keeps. So a set may be copied or touched. What a larger set
does not show is a change in the middle of a file that keeps its size. Of shards the index is all
that is looked at: it has a checksum of each image.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.data.shards.images import ShardImages
from squeezenet.errors import ImageError
from squeezenet.images.joined import plain_sets
from squeezenet.images.sets import FolderImages, ImageSet
from squeezenet.sealed_files import read_sealed, write_sealed

MAX_HASHED_BYTES = 1 << 28
"""SHA-256 takes 0.7 s for so many bytes in the page cache on one core."""
_END_BYTES = 1 << 12
"""Hashed at both ends of each file of a larger set: 0.06 s per 1,000 files in the page cache.
Looking at sizes and times alone takes 0.015 s."""

UNREADABLE = 0
"""Hash of an image that cannot be read, which training reports."""

_Digests: TypeAlias = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """What is known of sets of images, taken together in their order.

    ``names``: hash of labels and file names, 16 hex digits. ``contents_N``: hash of each image.
    ``places_N``: hash of each file's size, times and place on the disk. ``whole``: whether each
    file was hashed whole. ``sets`` are the images; empty for what was read from a file.
    """

    names: str
    contents_N: _Digests
    places_N: _Digests
    whole: bool
    sets: tuple[ImageSet, ...] = ()

    @property
    def summary(self) -> dict[str, str]:
        """Two hashes, of 16 hex digits: equal if no name, label or content has changed."""
        contents = hashlib.sha256(self.contents_N.astype("<u8").tobytes())
        return {"names": self.names, "contents": contents.hexdigest()[:16]}

    def same_files(self, known: Fingerprint | None) -> bool:
        """Whether ``known`` says all that this fingerprint does."""
        return (
            known is not None
            and (self.names, self.whole) == (known.names, known.whole)
            and np.array_equal(self.contents_N, known.contents_N)
            and np.array_equal(self.places_N, known.places_N)
        )

    def change(self, known: Fingerprint | None) -> str:
        """Say which images have changed since ``known``, which has equal names, if it tells."""
        like = (self.names, self.whole, len(self.contents_N))
        if known is None or like != (known.names, known.whole, len(known.contents_N)):
            return "images have changed since the run began"
        changed = np.flatnonzero(self.contents_N != known.contents_N)
        if not len(changed):
            return "images have changed since the run began"
        names = (images.name(i) for images in self.sets for i in range(len(images)))
        first = next(itertools.islice(names, int(changed[0]), None))
        count = f"{len(changed):,} of {len(self.contents_N):,} images"
        return f"{count} have changed since the run began, first {first}"

    def save(self, path: Path) -> None:
        """Write it as numbers of 64 bits, with a checksum.

        Raises:
            OSError: it cannot be written.
        """
        head = np.array([int(self.names, 16), int(self.whole)], np.uint64)
        table = np.concatenate([head, self.contents_N, self.places_N]).astype("<u8")
        write_sealed(path, lambda file: file.write(table.tobytes()))


def load_fingerprint(path: Path) -> Fingerprint | None:
    """Return what ``Fingerprint.save`` wrote; None if it is damaged or not there."""
    data = read_sealed(path)
    if data is None or len(data) % 16 or len(data) < 16:
        return None
    table = np.frombuffer(data, "<u8").astype(np.uint64)
    contents_N, places_N = np.split(table[2:], 2)
    return Fingerprint(
        names=f"{int(table[0]):016x}",
        contents_N=contents_N,
        places_N=places_N,
        whole=bool(table[1]),
    )


def fingerprint(sets: Sequence[ImageSet], known: Fingerprint | None = None) -> Fingerprint:
    """Return the fingerprint of sets of images.

    ``known``: that of an earlier call. Files of a large set that have not moved or changed their
    size or times since are not read again.
    """
    sets = plain_sets(sets)
    names = _names(sets)
    paths = [_paths(images) for images in sets]
    places_N = np.array([_place(path) for part in paths for path in part], np.uint64)
    if known is not None and (known.names, len(known.contents_N)) != (names, len(places_N)):
        known = None
    if known is not None:
        whole = known.whole
    else:
        whole = sum(_size(path) for part in paths for path in part if path) <= MAX_HASHED_BYTES
    contents_N = np.zeros(len(places_N), np.uint64)
    if known is not None and not whole:
        contents_N = known.contents_N.copy()
    i = 0
    for images, part in zip(sets, paths, strict=True):
        if isinstance(images, ShardImages):
            contents_N[i : i + len(images)] = images.checksums
            i += len(images)
            continue
        for k, path in enumerate(part):
            if path is None:
                contents_N[i] = _hash_of_pixels(images, k)
            elif whole or known is None or places_N[i] != known.places_N[i]:
                contents_N[i] = _hash_of_file(path, whole=whole)
            i += 1
    return Fingerprint(
        names=names,
        contents_N=contents_N,
        places_N=places_N,
        whole=whole,
        sets=tuple(sets),
    )


def _names(sets: Sequence[ImageSet]) -> str:
    digest = hashlib.sha256()
    for images in sets:
        digest.update(images.labels.tobytes())
        if isinstance(images, ShardImages):
            digest.update(images.rows.tobytes())
            continue
        for i in range(len(images)):
            digest.update(Path(images.name(i)).name.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def _paths(images: ImageSet) -> Sequence[Path | None]:
    """The files of a set; None for images in memory."""
    if isinstance(images, FolderImages):
        return images.paths
    return [None] * len(images)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _place(path: Path | None) -> int:
    if path is None:
        return 0
    try:
        found = path.stat()
    except OSError:
        return 0
    values = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
    return _number(hashlib.sha256(repr(values).encode()))


def _hash_of_file(path: Path, *, whole: bool) -> int:
    """Hash a file, or its size and both ends."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if whole:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            else:
                digest.update(size.to_bytes(8, "little"))
                digest.update(file.read(_END_BYTES))
                if size > _END_BYTES:
                    file.seek(max(_END_BYTES, size - _END_BYTES))
                    digest.update(file.read(_END_BYTES))
    except OSError:
        return UNREADABLE
    return _number(digest)


def _hash_of_pixels(images: ImageSet, i: int) -> int:
    try:
        pixels_HWC = images.pixels(i)
    except ImageError:
        return UNREADABLE
    return _number(hashlib.sha256(repr(pixels_HWC.shape).encode() + pixels_HWC.tobytes()))


def _number(digest: hashlib._Hash) -> int:
    return int.from_bytes(digest.digest()[:8], "little")
