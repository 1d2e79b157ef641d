"""Sets of labelled images: files, arrays in memory, or another set with a pixel cache."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.arch.class_labels import classes_hint
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import DataError, ImageError
from squeezenet.images.bad import with_notes
from squeezenet.images.decode import Pixels, read_image
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.walk import NOTHING, Findings

Labels: TypeAlias = npt.NDArray[np.int64]

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

    @property
    def findings(self) -> Findings:
        """What the search for these images has passed over."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The image's name in messages."""

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        """Decode one image: uint8 RGB (H, W, 3).

        ``min_side`` lets a large JPEG be decoded at a fraction of its size, see ``read_image``. It
        is for training alone: without it, the pixels are those that a client sees.

        Raises:
            ImageError: it cannot be read.
        """

    def shuffled(self, rng: np.random.Generator) -> Labels:
        """Return every index once, int64, in an order that ``rng`` alone decides."""

    def epoch_order(self, rng: np.random.Generator) -> Labels:
        """Return ``shuffled``, to be read now: images that are far away are fetched ahead."""

    def few(self, count: int) -> Sequence[int]:
        """Return the indices of about ``count`` images that stand for the set."""

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> ImageSet:
        """Return the images at these indices, with new labels and classes if given."""


class AnyOrder(Sized):
    """An order of an epoch, and a few images, of a set whose images can be read in any order."""

    def shuffled(self, rng: np.random.Generator) -> Labels:
        return rng.permutation(len(self))

    def epoch_order(self, rng: np.random.Generator) -> Labels:
        return self.shuffled(rng)

    def few(self, count: int) -> Sequence[int]:
        return range(0, len(self), max(1, len(self) // count))


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderImages(AnyOrder):
    """Image files with ``labels`` (int64, one per path), decoded on every access."""

    paths: tuple[Path, ...]
    labels: Labels
    class_names: tuple[str, ...]
    findings: Findings = NOTHING
    limits: ImageLimits = DEFAULT_LIMITS

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        return read_image(self.paths[index], limits=self.limits, min_side=min_side)

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
            findings=self.findings,
            limits=self.limits,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayImages(AnyOrder):
    """Images in memory: ``pixels_NHWC`` uint8 RGB; image i is named ``title[i]``."""

    pixels_NHWC: Pixels
    labels: Labels
    class_names: tuple[str, ...]
    title: str
    findings: Findings = NOTHING

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
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
    """Another set with a cache of decoded pixels, up to ``MAX_CACHED_BYTES``.

    Images of different ``min_side`` are kept apart, so the cache changes no pixel.
    """

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._cached: dict[tuple[int, int | None], Pixels] = {}
        self._cached_bytes = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._images.class_names

    @property
    def labels(self) -> Labels:
        return self._images.labels

    @property
    def findings(self) -> Findings:
        return self._images.findings

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        return self._images.name(index)

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        pixels_HWC = self._cached.get((index, min_side))
        if pixels_HWC is None:
            pixels_HWC = self._images.pixels(index, min_side)
            if self._cached_bytes + pixels_HWC.nbytes <= MAX_CACHED_BYTES:
                self._cached[index, min_side] = pixels_HWC
                self._cached_bytes += pixels_HWC.nbytes
        return pixels_HWC

    def shuffled(self, rng: np.random.Generator) -> Labels:
        return self._images.shuffled(rng)

    def epoch_order(self, rng: np.random.Generator) -> Labels:
        return self._images.epoch_order(rng)

    def few(self, count: int) -> Sequence[int]:
        return self._images.few(count)

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> CachedImages:
        return CachedImages(self._images.subset(indices, labels, class_names))


def is_small_set(images: ImageSet, min_side: int | None = None) -> bool:
    """Whether all pixels fit into ``MAX_CACHED_BYTES``, estimated from the largest of 16 images.

    ``min_side`` is that of ``ImageSet.pixels``.
    """
    sizes = []
    for i in images.few(_NUM_SIZE_SAMPLES):
        try:
            sizes.append(with_notes(partial(images.pixels, i, min_side))[0].nbytes)
        except ImageError:
            continue  # reported when training reads it
    return bool(sizes) and max(sizes) * len(images) <= MAX_CACHED_BYTES


def with_model_labels(images: ImageSet, record: ModelRecord) -> ImageSet:
    """Return the set with the indices of the model's outputs as labels.

    Folder names must be class names or class ids of the model. Classes may be missing from the
    set.

    Raises:
        DataError: a class of the set is not one of the model's.
    """
    outputs = {
        unicodedata.normalize("NFC", name): output
        for names in (record.class_names, record.class_ids)
        for output, name in enumerate(names)
    }
    unknown = [name for name in images.class_names if name not in outputs]
    if unknown:
        alike = {name.casefold(): name for name in outputs}.get(unknown[0].casefold())
        raise DataError(
            f"class {unknown[0]!r} is not one of the model's {len(record.class_names)} classes "
            f"({len(unknown)} of {len(images.class_names)} folders are not); "
            + (f"did you mean {alike!r}? " if alike else "")
            + f"the model has {', '.join(record.class_names[:5])}, ..."
            + classes_hint(record.class_names)
        )
    table = np.array([outputs[name] for name in images.class_names], np.int64)
    return images.subset(range(len(images)), table[images.labels], record.class_names)


def require_readable_classes(images: ImageSet) -> None:
    """Refuse a set in which none of a class's images can be read: it could never be learned.

    Decodes one image per class, more where images are broken.

    Raises:
        DataError: names the class and the first of its errors.
    """
    by_class = np.argsort(images.labels, kind="stable")
    ends = np.flatnonzero(np.diff(images.labels[by_class])) + 1
    for members in np.split(by_class, ends) if len(images) else ():
        first = ""
        for index in map(int, members):
            try:
                with_notes(partial(images.pixels, index))
                break
            except ImageError as error:
                first = first or str(error)
        else:
            label = int(images.labels[members[0]])
            raise DataError(
                f"class {images.class_names[label]!r}: none of its {len(members)} images can be "
                f"read ({first}); replace them or remove the folder"
            )
