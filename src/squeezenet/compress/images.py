"""The images that a compression works with: some to retrain, some to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.arch.record import ModelRecord
from squeezenet.data.digits import DIGITS, load_digits
from squeezenet.data.sources import VAL_FRACTION, TrainingData, open_training_data
from squeezenet.data.split import stratified_split
from squeezenet.errors import UsageError
from squeezenet.images.sets import (
    ImageSet,
    read_eval_folder,
    read_unlabelled,
    with_model_labels,
)

MANY_IMAGES = 10_000
"""From here on images are enough to train with as a training does."""
_KEPT_ASIDE = 0.2
"""Share of the calibration images on which agreement is measured when there is no ``--val``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressionImages:
    """``retrain`` has the model's labels if ``labelled``, else labels that mean nothing.

    ``measure`` likewise if ``measure_labelled``; else only agreement with the original can be
    measured on it. ``fingerprint`` is equal for equal images.
    """

    retrain: ImageSet
    labelled: bool
    measure: ImageSet
    measure_labelled: bool
    fingerprint: str


def open_compression_images(
    record: ModelRecord, *, data: str | None, calib: str | None, val: str | None, seed: int
) -> CompressionImages:
    """Open what the command was given.

    Raises:
        UsageError: neither ``data`` nor ``calib``, or both.
        DataError: no images, or classes that the model does not have.
    """
    if (data is None) == (calib is None):
        raise UsageError(
            "give either --data DATA (labelled, retrains by its labels) or --calib DATA "
            "(no labels needed, retrains by the original's answers)"
        )
    if data is not None:
        # The training's own split, so that nothing is measured on what was trained on.
        opened = open_training_data(data, val_fraction=val_fraction(record))
        retrain, aside = (with_model_labels(part, record) for part in (opened.train, opened.val))
    else:
        assert calib is not None
        images = read_unlabelled(Path(calib)) if calib != DIGITS else load_digits()["train"]
        nothing = np.zeros(len(images), np.int64)
        first, second = stratified_split(nothing, _KEPT_ASIDE, seed)
        if not len(second):
            raise UsageError(f"--calib {calib}: only {len(images)} image, expected some hundreds")
        retrain = images.subset(first.tolist(), nothing[first])
        aside = images.subset(second.tolist(), nothing[second])
    measure, measure_labelled = aside, data is not None
    if val is not None:
        found = load_digits()["test"] if val == DIGITS else read_eval_folder(Path(val))
        measure, measure_labelled = with_model_labels(found, record), True
    return CompressionImages(
        retrain=retrain,
        labelled=data is not None,
        measure=measure,
        measure_labelled=measure_labelled,
        fingerprint=TrainingData(train=retrain, val=measure).fingerprint,
    )


def some_of(images: ImageSet, most: int, seed: int) -> ImageSet:
    """Return at most ``most`` of the images, drawn from all of them: sets are sorted by class."""
    if len(images) <= most:
        return images
    order = np.random.default_rng(seed).permutation(len(images))[:most]
    return images.subset(sorted(order.tolist()))


def val_fraction(record: ModelRecord) -> float:
    """The share of its images that a model's training kept aside."""
    found = record.provenance.get("val_fraction")
    return found if isinstance(found, float) and 0 < found < 1 else VAL_FRACTION
