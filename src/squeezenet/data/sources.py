"""A DATA argument -> the images to train on, to evaluate on, or to learn from without labels.

It is a folder, or the word ``digits``, for every command alike. The test part is never opened for
training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.arch.record import ModelRecord
from squeezenet.data.digits import DIGITS, load_digits
from squeezenet.data.fingerprint import Fingerprint, fingerprint
from squeezenet.data.split import stratified_split
from squeezenet.errors import DataError
from squeezenet.images.folders import (
    beside_splits,
    eval_split,
    find_splits,
    read_class_folders,
    read_eval_folder,
    read_unlabelled,
)
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import ImageSet, with_model_labels
from squeezenet.images.walk import NOTHING, Findings


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """``train`` and ``val`` have the same classes, in the same order."""

    train: ImageSet
    val: ImageSet
    findings: Findings = NOTHING

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


def open_training_data(
    source: str, *, val_fraction: float = VAL_FRACTION, limits: ImageLimits = DEFAULT_LIMITS
) -> TrainingData:
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
    splits = find_splits(root)
    if splits and "train" not in splits:
        raise DataError(f"{root}: has {'/, '.join(splits)}/ and no train/; expected train/")
    train = read_class_folders(splits.get("train", root), limits=limits)
    findings = train.findings + (beside_splits(root, splits) if splits else NOTHING)
    if len(train.class_names) < 2:
        raise DataError(
            f"{splits.get('train', root)}: only one class, {train.class_names[0]!r}; "
            "a classifier needs two class folders or more"
        )
    if "train" in splits and "val" in splits:
        val = read_class_folders(splits["val"], allow_empty=True, limits=limits)
        unknown = sorted(set(val.class_names) - set(train.class_names))
        if unknown:
            alike = {name.casefold(): name for name in train.class_names}.get(unknown[0].casefold())
            raise DataError(
                f"{splits['val']}: class {unknown[0]!r} is not in {splits['train']}; "
                + (f"did you mean {alike!r}? " if alike else "")
                + "both must have the same class folders"
            )
        to_train = np.array([train.class_names.index(name) for name in val.class_names], np.int64)
        relabelled = val.subset(range(len(val)), to_train[val.labels], train.class_names)
        return TrainingData(train=train, val=relabelled, findings=findings + val.findings)
    first, second = stratified_split(train.labels, val_fraction, _SPLIT_SEED)
    if len(second) == 0:
        raise DataError(
            f"{root}: every class has a single image, so none can be held out for validation; "
            "add images, or a val/ folder"
        )
    return TrainingData(
        train=train.subset(first.tolist()), val=train.subset(second.tolist()), findings=findings
    )


def open_evaluation_data(
    source: str,
    record: ModelRecord,
    split: str | None = None,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> ImageSet:
    """Open labelled images to evaluate a model on, with the model's outputs as labels.

    Without ``split``: the part ``test``, else ``val``, else the folder itself. In a folder that
    has no parts, ``val`` is what the model's training holds out, ``train`` the rest.

    Raises:
        UsageError: no such folder or part.
        DataError: no images, or a class that the model does not have.
    """
    if source == DIGITS:
        return with_model_labels(load_digits()[split or "test"], record)
    if split in ("train", "val") and Path(source).is_dir() and not find_splits(Path(source)):
        data = open_training_data(source, val_fraction=recorded_val_fraction(record), limits=limits)
        return with_model_labels(data.val if split == "val" else data.train, record)
    return with_model_labels(read_eval_folder(Path(source), split, limits), record)


def open_unlabelled_data(source: str, *, limits: ImageLimits = DEFAULT_LIMITS) -> ImageSet:
    """Open images whose labels do not matter: of ``digits``, the training part.

    Raises:
        UsageError: no such folder.
        DataError: it has no images.
    """
    if source == DIGITS:
        return load_digits()["train"]
    return read_unlabelled(Path(source), limits)


def evaluation_title(source: str, split: str | None = None) -> str:
    """Return in words what ``open_evaluation_data`` opens: the data's name, and the part."""
    name = Path(source).resolve().name
    if source == DIGITS:
        return name
    if split in ("train", "val") and not find_splits(Path(source)):
        return f"{name}, {'held out from' if split == 'val' else 'used for'} training"
    chosen = eval_split(Path(source), split)
    return name + (f", its part {chosen}/" if chosen else "")


def recorded_val_fraction(record: ModelRecord) -> float:
    """Return the share of its images that the model's training held out."""
    found = record.provenance.get("val_fraction")
    return found if isinstance(found, float) and 0 < found < 1 else VAL_FRACTION
