"""The data set ``digits``: scikit-learn's 1,797 handwritten digits of 8x8 pixels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from squeezenet.data.split import stratified_split
from squeezenet.extras import require_extra
from squeezenet.images.sets import ArrayImages

DIGITS = "digits"
"""The word that names this data set wherever a folder is expected."""
_TEST_FRACTION = 0.25
_VAL_FRACTION = 0.1
_SPLIT_SEED = 0


def load_digits() -> dict[str, ArrayImages]:
    """Return ``train``, ``val`` and ``test``: 65, 10 and 25% of each class, the same every time.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    require_extra("train", "the data set digits")
    return _parts()


@lru_cache(maxsize=1)
def _parts() -> dict[str, ArrayImages]:
    from sklearn.datasets import load_digits as load

    bunch = load()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    images = ArrayImages(
        pixels_NHWC=np.repeat(grey[..., None], 3, axis=3),
        labels=bunch.target.astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
        title=DIGITS,
    )
    rest, test = stratified_split(images.labels, _TEST_FRACTION, _SPLIT_SEED)
    val_of_rest = _VAL_FRACTION / (1 - _TEST_FRACTION)
    train, val = stratified_split(images.labels[rest], val_of_rest, _SPLIT_SEED)
    return {
        "train": images.subset(rest[train].tolist()),
        "val": images.subset(rest[val].tolist()),
        "test": images.subset(test.tolist()),
    }
