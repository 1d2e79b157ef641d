"""A DATA argument -> a training set and a validation set. ``test/`` is never opened here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.data.digits import DIGITS, load_digits
from squeezenet.data.fingerprint import Fingerprint, fingerprint
from squeezenet.data.split import stratified_split
from squeezenet.errors import DataError
from squeezenet.images.sets import ImageSet, find_splits, read_class_folders


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """``train`` and ``val`` have the same classes, in the same order."""

    train: ImageSet
    val: ImageSet

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    def fingerprint(self, known: Fingerprint | None = None) -> Fingerprint:
        """Return the fingerprint of both sets; ``known`` is an earlier one."""
        return fingerprint((self.train, self.val), known)


VAL_FRACTION = 0.1
"""Default fraction of each class that is held out, where there is no ``val/``."""
_SPLIT_SEED = 0
"""One split for every command: images that one command holds out, no other trains on."""


def open_training_data(source: str, *, val_fraction: float = VAL_FRACTION) -> TrainingData:
    """Open ``digits``, a folder with ``train/`` (and perhaps ``val/``), or one of class folders.

    Without ``val/``, ``val_fraction`` of each class is held out, the same images every time. The
    images of a smaller fraction are a subset of those of a larger one.

    Raises:
        UsageError: no such folder.
        DataError: no images, only one class, a class without images, or a class of ``val/`` that
            ``train/`` does not have.
    """
    if source == DIGITS:
        digits = load_digits()
        return TrainingData(train=digits["train"], val=digits["val"])
    root = Path(source)
    splits = find_splits(root) if root.is_dir() else {}
    train = read_class_folders(splits.get("train", root))
    if len(train.class_names) < 2:
        raise DataError(
            f"{splits.get('train', root)}: only one class, {train.class_names[0]!r}; "
            "a classifier needs two class folders or more"
        )
    if "train" in splits and "val" in splits:
        val = read_class_folders(splits["val"])
        unknown = sorted(set(val.class_names) - set(train.class_names))
        if unknown:
            raise DataError(
                f"{splits['val']}: class {unknown[0]!r} is not in {splits['train']}; "
                "both must have the same class folders"
            )
        to_train = np.array([train.class_names.index(name) for name in val.class_names], np.int64)
        relabelled = val.subset(range(len(val)), to_train[val.labels], train.class_names)
        return TrainingData(train=train, val=relabelled)
    first, second = stratified_split(train.labels, val_fraction, _SPLIT_SEED)
    if len(second) == 0:
        raise DataError(
            f"{root}: every class has a single image, so none can be held out for validation; "
            "add images, or a val/ folder"
        )
    return TrainingData(train=train.subset(first.tolist()), val=train.subset(second.tolist()))
