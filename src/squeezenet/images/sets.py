"""Sets of labelled images: class folders, arrays in memory, or another set with a pixel cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.arch.labels import MAX_NAME_CHARACTERS
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import DataError, ImageError, UsageError
from squeezenet.images.decode import IMAGE_SUFFIXES, Pixels, read_image

Labels: TypeAlias = npt.NDArray[np.int64]

SPLITS = ("train", "val", "test")
MAX_CACHED_BYTES = 1 << 28
"""Largest set of decoded images that training keeps in memory: CIFAR-10 has 0.6 of it."""
_NUM_SIZE_SAMPLES = 16
"""Images from whose sizes that of a set is estimated; reading one takes milliseconds."""


class ImageSet(Protocol):
    """Images with labels. Must be picklable: worker processes read the pixels."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Labels:
        """Index into ``class_names`` of each image."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The image's name in messages."""

    def pixels(self, index: int) -> Pixels:
        """Decode one image: uint8 RGB (H, W, 3).

        Raises:
            ImageError: it cannot be read.
        """

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> ImageSet:
        """Return the images at these indices, with new labels and classes if given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderImages:
    """Image files with ``labels`` (int64, one per path), decoded on every access."""

    paths: tuple[Path, ...]
    labels: Labels
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def pixels(self, index: int) -> Pixels:
        return read_image(self.paths[index])

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> FolderImages:
        return FolderImages(
            paths=tuple(self.paths[i] for i in indices),
            labels=self.labels[list(indices)] if labels is None else labels,
            class_names=class_names or self.class_names,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayImages:
    """Images in memory: ``pixels_NHWC`` uint8 RGB; image i is named ``title[i]``."""

    pixels_NHWC: Pixels
    labels: Labels
    class_names: tuple[str, ...]
    title: str

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"

    def pixels(self, index: int) -> Pixels:
        pixels_HWC: Pixels = self.pixels_NHWC[index]
        return pixels_HWC

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> ArrayImages:
        return ArrayImages(
            pixels_NHWC=self.pixels_NHWC[list(indices)],
            labels=self.labels[list(indices)] if labels is None else labels,
            class_names=class_names or self.class_names,
            title=self.title,
        )


class CachedImages:
    """Another set with a cache of decoded pixels, up to ``MAX_CACHED_BYTES``."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._cached: dict[int, Pixels] = {}
        self._cached_bytes = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._images.class_names

    @property
    def labels(self) -> Labels:
        return self._images.labels

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        return self._images.name(index)

    def pixels(self, index: int) -> Pixels:
        pixels_HWC = self._cached.get(index)
        if pixels_HWC is None:
            pixels_HWC = self._images.pixels(index)
            if self._cached_bytes + pixels_HWC.nbytes <= MAX_CACHED_BYTES:
                self._cached[index] = pixels_HWC
                self._cached_bytes += pixels_HWC.nbytes
        return pixels_HWC

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> CachedImages:
        return CachedImages(self._images.subset(indices, labels, class_names))


def is_small_set(images: ImageSet) -> bool:
    """Whether all pixels fit into ``MAX_CACHED_BYTES``, estimated from the largest of 16 images."""
    sizes = []
    for i in range(0, len(images), max(1, len(images) // _NUM_SIZE_SAMPLES)):
        try:
            sizes.append(images.pixels(i).nbytes)
        except ImageError:
            continue  # reported when training reads it
    return bool(sizes) and max(sizes) * len(images) <= MAX_CACHED_BYTES


def read_class_folders(root: Path) -> FolderImages:
    """List the images ``root/<class>/**/*.jpg`` (and other types); classes are sorted by name.

    Reads names only and opens no image. Skips hidden files and hidden class folders.

    Raises:
        UsageError: ``root`` is not a folder.
        DataError: no class folders, no images, or a class without images.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    for folder in folders:
        if not folder.name.isprintable() or len(folder.name) > MAX_NAME_CHARACTERS:
            raise DataError(
                f"{root}: folder name {folder.name!r} is not a valid class name, expected at most "
                f"{MAX_NAME_CHARACTERS} printable characters; rename the folder"
            )
    if not folders:
        raise DataError(f"{root}: no class folders inside; expected {root.name}/<class>/<image>")
    paths: list[Path] = []
    labels: list[int] = []
    empty = []
    for label, folder in enumerate(folders):
        found = _images_under(folder)
        if not found:
            empty.append(folder.name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(
            f"{root}: no images inside; expected {root.name}/<class>/<image> with files of type "
            + ", ".join(sorted(IMAGE_SUFFIXES))
        )
    if empty:
        raise DataError(
            f"{root}: class {empty[0]!r} has no images ({len(empty)} of {len(folders)} class "
            "folders are empty); add images or remove the folder"
        )
    return FolderImages(
        paths=tuple(paths),
        labels=np.array(labels, np.int64),
        class_names=tuple(folder.name for folder in folders),
    )


def find_splits(root: Path) -> dict[str, Path]:
    """Return the folders ``train``, ``val`` and ``test`` of ``root`` that exist, by name."""
    return {name: root / name for name in SPLITS if (root / name).is_dir()}


def read_eval_folder(root: Path, split: str | None = None) -> FolderImages:
    """List the images to evaluate a model on: those of ``eval_split``.

    Raises:
        UsageError, DataError: see ``eval_split`` and ``read_class_folders``.
    """
    chosen = eval_split(root, split)
    return read_class_folders(root / chosen if chosen else root)


def eval_split(root: Path, split: str | None = None) -> str | None:
    """Choose the split to evaluate on: ``split`` if given, else ``test``, else ``val``.

    None means the folder itself, which has no splits.

    Raises:
        UsageError: the split does not exist, or only ``train`` does and was not asked for.
    """
    splits = find_splits(root) if root.is_dir() else {}
    if split is None and list(splits) == ["train"]:
        raise UsageError(
            f"{root}: only train/ inside, expected test/ or val/; pass --split train to evaluate "
            "on training images"
        )
    if split is not None and split not in splits:
        raise UsageError(
            f"{root}: no folder {split!r} inside; found {sorted(splits) or 'no split'}"
        )
    return split or next((name for name in ("test", "val") if name in splits), None)


def read_unlabelled(root: Path) -> FolderImages:
    """List all images under a folder; every label is 0.

    Raises:
        UsageError: ``root`` is not a folder.
        DataError: it has no images.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    paths = _images_under(root)
    if not paths:
        raise DataError(f"{root}: no images inside; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return FolderImages(
        paths=tuple(paths), labels=np.zeros(len(paths), np.int64), class_names=("unlabelled",)
    )


def _images_under(folder: Path) -> list[Path]:
    """Return image files by their suffixes, sorted by path; hidden files are skipped."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def with_model_labels(images: ImageSet, record: ModelRecord) -> ImageSet:
    """Return the set with the indices of the model's outputs as labels.

    Folder names must be class names or class ids of the model. Classes may be missing from the
    set.

    Raises:
        DataError: a class of the set is not one of the model's.
    """
    outputs: dict[str, int] = {}
    for names in (record.class_names, record.class_ids):
        for output, name in enumerate(names):
            outputs[name] = output
    unknown = [name for name in images.class_names if name not in outputs]
    if unknown:
        raise DataError(
            f"class {unknown[0]!r} is not one of the model's {len(record.class_names)} classes "
            f"({len(unknown)} of {len(images.class_names)} folders are not); "
            f"the model has {', '.join(record.class_names[:5])}, ..."
        )
    table = np.array([outputs[name] for name in images.class_names], np.int64)
    return images.subset(range(len(images)), table[images.labels], record.class_names)
