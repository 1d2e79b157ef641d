"""The images of a compression: some to learn from, others to measure with.

No image is in both sets. Without labels the original's predictions teach, and only agreement with
them can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.arch.record import ModelRecord
from squeezenet.data.digits import DIGITS, load_digits
from squeezenet.data.fingerprint import Fingerprint, fingerprint
from squeezenet.data.sources import VAL_FRACTION, open_training_data
from squeezenet.data.split import stratified_split
from squeezenet.errors import UsageError
from squeezenet.images.sets import (
    ImageSet,
    read_eval_folder,
    read_unlabelled,
    with_model_labels,
)

FULL_TRAINING_IMAGES = 10_000
"""From so many images on, retraining uses the settings of a full training. It was measured far
below and far above: on 640 photographs and on CIFAR-10's tens of thousands."""
HELD_OUT_SHARE = 0.2
"""Share of the calibration images that only measure agreement, without ``--val``: 160 of 800."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressionImages:
    """Two sets of images.

    ``retrain``: to learn from. Its labels are the model's classes if ``labelled``, else 0.
    ``measure``: to measure with. Its labels are the model's classes if ``measure_labelled``, else
    0, and only agreement with the original can be measured.
    """

    retrain: ImageSet
    labelled: bool
    measure: ImageSet
    measure_labelled: bool

    def fingerprint(self, known: Fingerprint | None = None) -> Fingerprint:
        """Return the fingerprint of both sets; ``known`` is an earlier one."""
        return fingerprint((self.retrain, self.measure), known)


def open_compression_images(
    record: ModelRecord, *, data: str | None, calib: str | None, val: str | None, seed: int
) -> CompressionImages:
    """Open the images of the command's options ``--data`` or ``--calib``, and ``--val``.

    Raises:
        UsageError: neither ``data`` nor ``calib``, or both.
        DataError: no images, or classes that the model does not have.
    """
    if (data is None) == (calib is None):
        raise UsageError(
            "give either --data DATA (labelled images, which teach by their labels) or --calib "
            "DATA (no labels needed, the original's predictions teach)"
        )
    if data is not None:
        # The same split as in training, so that no image that was trained on is measured.
        opened = open_training_data(data, val_fraction=val_fraction(record))
        retrain, held_out = (with_model_labels(part, record) for part in (opened.train, opened.val))
    else:
        assert calib is not None
        retrain, held_out = _split_unlabelled(calib, seed)
    measure, measure_labelled = held_out, data is not None
    if val is not None:
        found = load_digits()["test"] if val == DIGITS else read_eval_folder(Path(val))
        measure, measure_labelled = with_model_labels(found, record), True
    return CompressionImages(
        retrain=retrain,
        labelled=data is not None,
        measure=measure,
        measure_labelled=measure_labelled,
    )


def _split_unlabelled(calib: str, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split the images of ``--calib`` into those to learn from and those held out; labels are 0."""
    images = read_unlabelled(Path(calib)) if calib != DIGITS else load_digits()["train"]
    no_labels = np.zeros(len(images), np.int64)
    learn, held_out = stratified_split(no_labels, HELD_OUT_SHARE, seed)
    if not len(held_out):
        raise UsageError(f"--calib {calib}: only {len(images)} image, expected some hundreds")
    return (
        images.subset(learn.tolist(), no_labels[learn]),
        images.subset(held_out.tolist(), no_labels[held_out]),
    )


def random_subset(images: ImageSet, max_images: int, seed: int) -> ImageSet:
    """Return at most ``max_images`` of the images, drawn at random, in the order of the set.

    Drawn, not the first ones, since sets are sorted by class.
    """
    if len(images) <= max_images:
        return images
    order = np.random.default_rng(seed).permutation(len(images))[:max_images]
    return images.subset(sorted(order.tolist()))


def val_fraction(record: ModelRecord) -> float:
    """Return the share of its images that the model's training held out."""
    found = record.provenance.get("val_fraction")
    return found if isinstance(found, float) and 0 < found < 1 else VAL_FRACTION
