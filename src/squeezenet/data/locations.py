"""What a DATA argument names: a folder of pictures, shards in a folder or at a URL, ``digits``.

The only place that tells them apart: ``sources`` treats all of them alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import numpy as np

from squeezenet.data.digits import DIGITS, load_digits
from squeezenet.data.shards.cache import ShardCache
from squeezenet.data.shards.images import ShardImages, open_shard_images
from squeezenet.data.shards.index import (
    INDEX,
    UNFINISHED,
    IndexHead,
    is_shard_folder,
    read_index,
)
from squeezenet.data.shards.remote import (
    RemoteShards,
    file_url,
    open_remote_head,
    open_remote_index,
    shown_url,
)
from squeezenet.data.shards.storage import LocalShards
from squeezenet.errors import DataError, FetchError, UsageError
from squeezenet.images.folders import (
    SPLITS,
    beside_splits,
    find_splits,
    read_class_folders,
    read_unlabelled,
    split_of,
)
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import ImageSet
from squeezenet.images.walk import NOTHING, Findings, visible_folders

_NOT_THERE = (403, 404, 410)
"""Answers for a file that does not exist; some stores say 403 to those who may not list it."""


_NAMES_SHOWN = 4


class Location(Protocol):
    """A data set. ``name`` is its short name, ``parts`` are those of ``SPLITS`` that it has."""

    @property
    def name(self) -> str: ...

    @property
    def parts(self) -> tuple[str, ...]: ...

    def where(self, part: str | None) -> str:
        """Return what messages call a part; None is a data set without parts."""

    def labelled(self, part: str | None, *, allow_empty: bool = False) -> ImageSet:
        """Open a part. ``allow_empty``: classes may be missing.

        Raises:
            UsageError: there is nothing of that name.
            DataError: it has no images, or other faults.
        """

    def unlabelled(self) -> ImageSet:
        """Open images to learn from without labels; raises what ``labelled`` does."""

    def beside_parts(self) -> Findings:
        """Return what there is beside the parts, which is not used."""


def locate(source: str, limits: ImageLimits = DEFAULT_LIMITS) -> Location:
    """Return what a DATA argument names; a folder that is missing is met when it is opened.

    Raises:
        DataError: its folders can be meant in two ways, or it is a folder of tars without an index.
        FetchError: it is a URL, and the index of shards cannot be fetched from there.
    """
    if source == DIGITS:
        return _Digits()
    if is_url(source):
        return _remote(source, limits)
    root = Path(source)
    parts: Mapping[str | None, Path] = _shard_folders(root)
    if parts:
        return _Shards(
            source,
            {part: _opener(folder, limits) for part, folder in parts.items()},
            lambda: beside_splits(root, {k: v for k, v in parts.items() if k}),
        )
    _require_no_tars(root)
    return _Folder(root, limits)


def data_name(source: str) -> str:
    """Return the short name of a DATA argument, for titles and run folders."""
    if source == DIGITS:
        return source
    if is_url(source):
        parts = urlsplit(source)
        return unquote(parts.path).rstrip("/").rpartition("/")[2] or parts.netloc
    return Path(source).resolve().name


def is_url(source: str) -> bool:
    """Whether a DATA argument is the URL of shards."""
    return source.startswith(("http://", "https://"))


class _Digits:
    name = DIGITS
    parts = ("train", "val", "test")

    def where(self, part: str | None) -> str:
        return DIGITS

    def labelled(self, part: str | None, *, allow_empty: bool = False) -> ImageSet:
        assert part is not None
        return load_digits()[part]

    def unlabelled(self) -> ImageSet:
        return load_digits()["train"]

    def beside_parts(self) -> Findings:
        return NOTHING


class _Folder:
    """Class folders of pictures, in parts or not."""

    def __init__(self, root: Path, limits: ImageLimits) -> None:
        self._root = root
        self._limits = limits
        self.name = data_name(str(root))

    @cached_property
    def _folders(self) -> dict[str, Path]:
        return find_splits(self._root)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._folders)

    def where(self, part: str | None) -> str:
        return str(self._root if part is None else self._folders[part])

    def labelled(self, part: str | None, *, allow_empty: bool = False) -> ImageSet:
        folder = self._root if part is None else self._folders[part]
        return read_class_folders(folder, allow_empty=allow_empty, limits=self._limits)

    def unlabelled(self) -> ImageSet:
        return read_unlabelled(self._root, self._limits)

    def beside_parts(self) -> Findings:
        return beside_splits(self._root, self._folders) if self._folders else NOTHING


class _Shards:
    """Shards, in parts or not: the part None is the data set itself."""

    def __init__(
        self,
        source: str,
        openers: Mapping[str | None, Callable[[], ShardImages]],
        beside: Callable[[], Findings] = lambda: NOTHING,
    ) -> None:
        self._source = source
        self._openers = openers
        self._beside = beside
        self.name = data_name(source)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part for part in self._openers if part is not None)

    def where(self, part: str | None) -> str:
        source = shown_url(self._source) if is_url(self._source) else self._source.rstrip("/")
        return source if part is None else f"{source}/{part}"

    def labelled(self, part: str | None, *, allow_empty: bool = False) -> ImageSet:
        images = self._openers[part]()
        counts = np.bincount(images.labels, minlength=len(images.class_names))
        empty = [images.class_names[label] for label in np.flatnonzero(counts == 0)[:_NAMES_SHOWN]]
        if not empty:
            return images
        note = (
            f"{self.where(part)}: no images in {np.count_nonzero(counts == 0)} of {len(counts)} "
            f"classes ({', '.join(empty)}{', ...' if len(empty) == _NAMES_SHOWN else ''})"
        )
        findings = images.findings + Findings(notes=(note,))
        return dataclasses.replace(images, findings=findings)

    def unlabelled(self) -> ImageSet:
        return self._openers["train" if "train" in self._openers else next(iter(self._openers))]()

    def beside_parts(self) -> Findings:
        return self._beside() if self.parts else NOTHING


def _remote(url: str, limits: ImageLimits) -> Location:
    """Find shards at a URL: there, or in the folders ``train``, ``val`` and ``test`` there."""
    url = url.removesuffix(f"/{INDEX}")
    cache = ShardCache()

    def opener(folder_url: str, head: IndexHead) -> Callable[[], ShardImages]:
        return lambda: open_shard_images(
            open_remote_index(folder_url, head, cache),
            RemoteShards(folder_url, head.shards, cache),
            limits,
        )

    try:
        return _Shards(url, {None: opener(url, open_remote_head(url))})
    except FetchError as error:
        if error.status not in _NOT_THERE:
            raise
    found: dict[str | None, Callable[[], ShardImages]] = {}
    for part in SPLITS:
        try:
            part_url = file_url(url, part)
            found[part] = opener(part_url, open_remote_head(part_url))
        except FetchError as error:
            if error.status not in _NOT_THERE:
                raise
    if not found:
        raise FetchError(
            f"{shown_url(url)}: no {INDEX} there, nor in {'/, '.join(SPLITS)}/; expected the URL "
            "of a folder that squeezenet shard wrote"
        )
    return _Shards(url, found)


def _shard_folders(root: Path) -> dict[str | None, Path]:
    """Return the folders of shards in a data set by part; empty if it has none."""
    if is_shard_folder(root):
        return {None: root}
    _require_finished(root)
    found: dict[str | None, Path] = {}
    for folder in visible_folders(root)[0] if root.is_dir() else ():
        part = split_of(folder.name)
        if part is None:
            continue
        _require_finished(folder)
        if is_shard_folder(folder):
            if part in found:
                raise DataError(
                    f"{root}: both {found[part].name}/ and {folder.name}/ are a {part} part; "
                    "expected one, rename the other"
                )
            found[part] = folder
    return {part: found[part] for part in SPLITS if part in found}


def _require_finished(folder: Path) -> None:
    if (folder / UNFINISHED).is_file() and not is_shard_folder(folder):
        raise DataError(
            f"{folder}: its shards are not finished; give the same squeezenet shard command again"
        )


def _require_no_tars(root: Path) -> None:
    """Refuse a folder of tars, which has no class folders and no index."""
    if not root.is_dir() or visible_folders(root)[0]:
        return
    if any(path.suffix == ".tar" for path in root.iterdir()):
        raise UsageError(
            f"{root}: has tars and no index; squeezenet shard --index {root} makes one"
        )


def _opener(folder: Path, limits: ImageLimits) -> Callable[[], ShardImages]:
    return lambda: open_shard_images(read_index(folder), LocalShards(folder), limits)
