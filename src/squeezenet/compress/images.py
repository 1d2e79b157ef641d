"""The images of a compression: some to learn from, others to measure with.

No image is in both sets. Without labels the original's predictions teach, and only agreement with
them can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from squeezenet.arch.record import ModelRecord
from squeezenet.data.fingerprint import UNREADABLE, Fingerprint, fingerprint
from squeezenet.data.sources import (
    open_evaluation_data,
    open_training_data,
    open_unlabelled_data,
    recorded_val_fraction,
)
from squeezenet.data.split import stratified_split
from squeezenet.errors import DataError, UsageError
from squeezenet.images.joined import JoinedImages, joined
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import ImageSet, with_model_labels
from squeezenet.images.walk import NOTHING, Findings

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
    findings: Findings = NOTHING

    def fingerprint(self, known: Fingerprint | None = None) -> Fingerprint:
        """Return the fingerprint of both sets; ``known`` is an earlier one."""
        return fingerprint((self.retrain, self.measure), known)


def open_compression_images(
    record: ModelRecord,
    *,
    data: str | None,
    calib: Sequence[str],
    val: str | None,
    seed: int,
    limits: ImageLimits = DEFAULT_LIMITS,
    log: Callable[[str], None] = lambda line: None,
) -> CompressionImages:
    """Open the images of the command's options ``--data`` or ``--calib``, and ``--val``.

    Images of ``calib`` that are measured too, by ``val`` or as a second copy of one that is held
    out, are not learned from; ``log`` is told of it.

    Raises:
        UsageError: neither ``data`` nor ``calib``, or both.
        DataError: no images, or classes that the model does not have.
    """
    if (data is None) == (not calib):
        raise UsageError(
            "give either --data DATA (labelled images, which teach by their labels) or --calib "
            "DATA (no labels needed, the original's predictions teach)"
        )
    if data is not None:
        # The same split as in training, so that no image that was trained on is measured.
        opened = open_training_data(data, val_fraction=recorded_val_fraction(record), limits=limits)
        retrain, held_out = (with_model_labels(part, record) for part in (opened.train, opened.val))
        findings = opened.findings
    else:
        retrain, held_out = _split_unlabelled(calib, seed, limits)
        findings = retrain.findings
    measure, measure_labelled = held_out, data is not None
    if val is not None:
        measure, measure_labelled = open_evaluation_data(val, record, limits=limits), True
        findings += measure.findings
    if calib:
        where = f"--val {val}" if val is not None else "the part that is held out"
        retrain = _without(retrain, measure, f"--calib {' '.join(calib)}", where, log)
    return CompressionImages(
        retrain=retrain,
        labelled=data is not None,
        measure=measure,
        measure_labelled=measure_labelled,
        findings=findings,
    )


def _split_unlabelled(
    calib: Sequence[str], seed: int, limits: ImageLimits
) -> tuple[ImageSet, ImageSet]:
    """Split the images of each source into some to learn from and some held out; labels are 0."""
    sets = [open_unlabelled_data(source, limits=limits) for source in calib]
    images = joined(sets)
    no_labels = np.zeros(len(images), np.int64)
    source_N = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    learn, held_out = stratified_split(source_N, HELD_OUT_SHARE, seed)
    if not len(held_out):
        noun = "image" if len(images) == 1 else "images"
        raise UsageError(
            f"--calib {' '.join(calib)}: only {len(images)} {noun}, expected some hundreds"
        )
    return (
        images.subset(learn.tolist(), no_labels[learn]),
        images.subset(held_out.tolist(), no_labels[held_out]),
    )


def _without(
    images: ImageSet,
    measured: ImageSet,
    option: str,
    where: str,
    log: Callable[[str], None],
) -> ImageSet:
    """Return the images whose contents are not among the measured ones, and say what was left out.

    Raises:
        DataError: none is left.
    """
    contents_N = fingerprint((images, measured)).contents_N
    learn_N, measured_N = contents_N[: len(images)], contents_N[len(images) :]
    is_measured_N = np.isin(learn_N, measured_N[measured_N != UNREADABLE])
    num_measured = int(is_measured_N.sum())
    if not num_measured:
        return images
    first = images.name(int(np.argmax(is_measured_N)))
    if num_measured == len(images):
        raise DataError(f"{option}: all images are in {where} too; none is left to learn from")
    log(
        f"{option}: {num_measured:,} of {len(images):,} images are in {where} too, first "
        f"{first}; they are measured, and not learned from"
    )
    return images.subset(np.flatnonzero(~is_measured_N).tolist())


def random_subset(images: ImageSet, max_images: int, seed: int) -> ImageSet:
    """Return at most ``max_images`` of the images, drawn at random, in the order of the set.

    Drawn, not the first ones, since sets are sorted by class. Of joined sets, each gives a share
    in proportion to the root of its size: a small set that was given beside a large one counts.
    What one set gains by a larger share, the other loses (docs/experiments/sequential_rounding.md).
    """
    if len(images) <= max_images:
        return images
    rng = np.random.default_rng(seed)
    order = images.shuffled(rng)
    if isinstance(images, JoinedImages):
        part_N = images.part_N[order]
        counts = np.bincount(part_N)
        place_N = np.empty(len(order), np.int64)
        for k, count in enumerate(counts):
            place_N[part_N == k] = np.arange(count)
        # The next of a set comes when the others have had as large a share of theirs.
        order = order[np.argsort((place_N + 0.5) / np.sqrt(counts)[part_N], kind="stable")]
    return images.subset(sorted(order[:max_images].tolist()))
