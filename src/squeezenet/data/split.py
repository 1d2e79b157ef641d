"""Stratified splits, and loss weights for classes of unequal size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeezenet.images.sets import Labels


def stratified_split(labels: Labels, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Split indices 0..N-1 in two parts; the second has about ``fraction`` of each class.

    A class of at least two images is in both parts; a single image is in the first. Both parts are
    ascending and depend on labels, fraction and seed alone.
    """
    assert 0 < fraction < 1
    second: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label)]).permutation(members)
        wanted = max(1, int(np.floor(len(members) * fraction + 0.5)))
        second += order[: min(wanted, len(members) - 1)].tolist()
    mask = np.zeros(len(labels), bool)
    mask[second] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def class_weights(labels: Labels, num_classes: int) -> npt.NDArray[np.float32]:
    """Return a loss weight per class, float32 (K,): inverse to its number of images.

    The mean over all images is 1.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = int(np.count_nonzero(counts))
    weights = len(labels) / (present * np.maximum(counts, 1))
    return np.asarray(weights, np.float32)
