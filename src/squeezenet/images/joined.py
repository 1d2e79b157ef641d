"""Several sets of images as one, such as the folders of a repeated ``--calib``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from squeezenet.images.decode import Pixels
from squeezenet.images.sets import ImageSet, Labels
from squeezenet.images.walk import NOTHING, Findings


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedImages:
    """Images of ``parts``: image i is image ``index_N[i]`` of part ``part_N[i]``.

    An image may be there more than once. Labels and classes are the set's own.
    """

    parts: tuple[ImageSet, ...]
    part_N: Labels
    index_N: Labels
    labels: Labels
    class_names: tuple[str, ...]
    findings: Findings = NOTHING

    def __len__(self) -> int:
        return len(self.index_N)

    def name(self, index: int) -> str:
        images: ImageSet = self.parts[self.part_N[index]]
        return images.name(int(self.index_N[index]))

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        images: ImageSet = self.parts[self.part_N[index]]
        return images.pixels(int(self.index_N[index]), min_side)

    def shuffled(self, rng: np.random.Generator) -> Labels:
        return self._mixed(rng, [images.shuffled(rng) for images in self.chosen()])

    def epoch_order(self, rng: np.random.Generator) -> Labels:
        return self._mixed(rng, [images.epoch_order(rng) for images in self.chosen()])

    def few(self, count: int) -> Sequence[int]:
        """Return some of each part, in proportion."""
        found: list[int] = []
        for k, images in enumerate(self.chosen()):
            share = round(count * len(images) / max(1, len(self)))
            if len(images):
                found += self._of_part(k)[list(images.few(max(1, share)))].tolist()
        return found

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> JoinedImages:
        chosen = np.asarray(indices, np.int64)
        return JoinedImages(
            parts=self.parts,
            part_N=self.part_N[chosen],
            index_N=self.index_N[chosen],
            labels=self.labels[chosen] if labels is None else labels,
            class_names=class_names or self.class_names,
            findings=self.findings,
        )

    def chosen(self) -> tuple[ImageSet, ...]:
        """Return of each part the images that are in the set, in its order."""
        return tuple(
            images.subset(self.index_N[self._of_part(k)].tolist())
            for k, images in enumerate(self.parts)
        )

    def _of_part(self, k: int) -> Labels:
        places: Labels = np.flatnonzero(self.part_N == k)
        return places

    def _mixed(self, rng: np.random.Generator, orders: Sequence[Labels]) -> Labels:
        """Interleave the parts at random; each keeps its own order, which may suit its storage."""
        part_N = rng.permutation(self.part_N)
        mixed_N = np.empty(len(self), np.int64)
        for k, order in enumerate(orders):
            mixed_N[part_N == k] = self._of_part(k)[order]
        return mixed_N


def plain_sets(sets: Sequence[ImageSet]) -> tuple[ImageSet, ...]:
    """Return the sets with what is joined taken apart again."""
    plain: list[ImageSet] = []
    for images in sets:
        plain += images.chosen() if isinstance(images, JoinedImages) else [images]
    return tuple(plain)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """Return the images of all sets, in order, without labels; a single set as it is."""
    if len(sets) == 1:
        return sets[0]
    sizes = [len(images) for images in sets]
    findings = NOTHING
    for images in sets:
        findings += images.findings
    return JoinedImages(
        parts=tuple(sets),
        part_N=np.repeat(np.arange(len(sets)), sizes),
        index_N=np.concatenate([np.arange(size) for size in sizes]),
        labels=np.zeros(sum(sizes), np.int64),
        class_names=sets[0].class_names,
        findings=findings,
    )
