"""A DATA argument -> the images to train on, to evaluate on, or to learn from without labels.

It is a folder, shards in a folder or at a URL, or the word ``digits``, for every command alike: see
``locations``. The test part is never opened for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from squeezenet.arch.record import ModelRecord
from squeezenet.data.digits import DIGITS
from squeezenet.data.fingerprint import Fingerprint, fingerprint
from squeezenet.data.locations import locate
from squeezenet.data.split import stratified_split
from squeezenet.errors import DataError, UsageError
from squeezenet.images.folders import choose_split
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import ImageSet, with_model_labels
from squeezenet.images.walk import NOTHING, Findings

S = TypeVar("S", bound=ImageSet)


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
_SUBSET_SEED = 1


def open_training_data(
    source: str, *, val_fraction: float = VAL_FRACTION, limits: ImageLimits = DEFAULT_LIMITS
) -> TrainingData:
    """Open a data set to train on: its part ``train``, and ``val`` if it has one.

    Without ``val``, ``val_fraction`` of each class is held out, the same images every time. The
    images of a smaller fraction are a subset of those of a larger one.

    Raises:
        UsageError: no such folder.
        FetchError: shards at a URL cannot be reached.
        DataError: no images, only one class, a class without images, or a class of ``val/`` that
            ``train/`` does not have.
    """
    location = locate(source, limits)
    parts = location.parts
    if parts and "train" not in parts:
        raise DataError(f"{source}: has {'/, '.join(parts)}/ and no train/; expected train/")
    part = "train" if parts else None
    train = location.labelled(part)
    findings = train.findings + location.beside_parts()
    if len(train.class_names) < 2:
        raise DataError(
            f"{location.where(part)}: only one class, {train.class_names[0]!r}; "
            "a classifier needs two class folders or more"
        )
    if "val" in parts:
        val = location.labelled("val", allow_empty=True)
        relabelled = with_classes(
            val, train.class_names, location.where("val"), location.where("train")
        )
        return TrainingData(train=train, val=relabelled, findings=findings + val.findings)
    first, second = stratified_split(train.labels, val_fraction, _SPLIT_SEED)
    if len(second) == 0:
        raise DataError(
            f"{source}: every class has a single image, so none can be held out for validation; "
            "add images, or a val/ folder"
        )
    return TrainingData(
        train=train.subset(first.tolist()), val=train.subset(second.tolist()), findings=findings
    )


def with_fewer_images(data: TrainingData, num_images: int) -> TrainingData:
    """Return the data with about ``num_images`` images to train on, the same ones every time.

    Each class keeps its share. Images of a smaller number are a subset of those of a larger one.
    ``val`` stays as it is.

    Raises:
        UsageError: there are fewer, or there would be classes without images.
    """
    total, num_classes = len(data.train), len(data.class_names)
    if not num_classes <= num_images <= total:
        raise UsageError(
            f"--train-images {num_images:,}, expected {num_classes:,} (one per class) to {total:,}"
        )
    if num_images == total:
        return data
    _, kept = stratified_split(data.train.labels, num_images / total, _SUBSET_SEED)
    empty = set(range(num_classes)) - set(data.train.labels[kept].tolist())
    if empty:
        raise UsageError(
            f"--train-images {num_images:,}: leaves class {data.class_names[min(empty)]!r} without "
            "images, which has one; give it more images, or use all of them"
        )
    return TrainingData(
        train=data.train.subset(kept.tolist()), val=data.val, findings=data.findings
    )


def with_classes(images: S, names: tuple[str, ...], where: str, others: str) -> S:
    """Return the images with the numbers of their classes in ``names``, those of ``others``.

    Raises:
        DataError: one of their classes is not there.
    """
    unknown = sorted(set(images.class_names) - set(names))
    if unknown:
        alike = {name.casefold(): name for name in names}.get(unknown[0].casefold())
        raise DataError(
            f"{where}: class {unknown[0]!r} is not in {others}; "
            + (f"did you mean {alike!r}? " if alike else "")
            + "both must have the same class folders"
        )
    table = np.array([names.index(name) for name in images.class_names], np.int64)
    relabelled = images.subset(range(len(images)), table[images.labels], names)
    return cast(S, relabelled)


def open_evaluation_data(
    source: str,
    record: ModelRecord,
    split: str | None = None,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> ImageSet:
    """Open labelled images to evaluate a model on, with the model's outputs as labels.

    Without ``split``: the part ``test``, else ``val``, else the data set itself. In one that has no
    parts, ``val`` is what the model's training holds out, ``train`` the rest.

    Raises:
        UsageError: no such folder or part.
        DataError: no images, or a class that the model does not have.
    """
    location = locate(source, limits)
    if split in ("train", "val") and not location.parts:
        data = open_training_data(source, val_fraction=recorded_val_fraction(record), limits=limits)
        return with_model_labels(data.val if split == "val" else data.train, record)
    part = choose_split(source, location.parts, split)
    return with_model_labels(location.labelled(part, allow_empty=True), record)


def open_unlabelled_data(source: str, *, limits: ImageLimits = DEFAULT_LIMITS) -> ImageSet:
    """Open images whose labels do not matter: of ``digits``, the training part.

    Raises:
        UsageError: no such folder.
        DataError: it has no images.
    """
    return locate(source, limits).unlabelled()


def evaluation_title(source: str, split: str | None = None) -> str:
    """Return in words what ``open_evaluation_data`` opens: the data's name, and the part."""
    location = locate(source)
    if source == DIGITS:
        return location.name
    if split in ("train", "val") and not location.parts:
        return f"{location.name}, {'held out from' if split == 'val' else 'used for'} training"
    chosen = choose_split(source, location.parts, split)
    return location.name + (f", its part {chosen}/" if chosen else "")


def recorded_val_fraction(record: ModelRecord) -> float:
    """Return the share of its images that the model's training held out."""
    found = record.provenance.get("val_fraction")
    return found if isinstance(found, float) and 0 < found < 1 else VAL_FRACTION
