"""Where a classifier errs, in numbers: confusion, recall of each class, its worst mistakes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.evaluation.metrics import softmax
from squeezenet.evaluation.predict import LabelledLogits


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image, by its place in the set, that was taken for ``predicted`` with ``probability``."""

    index: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Confused:
    """``count`` of the ``total`` images of class ``label`` were taken for class ``predicted``."""

    label: int
    predicted: int
    count: int
    total: int


def confusion_matrix(predicted: LabelledLogits) -> npt.NDArray[np.int64]:
    """Count images: row by their class, column by the prediction, (K, K)."""
    num_classes = predicted.logits_NK.shape[1]
    given = predicted.logits_NK.argmax(axis=1)
    flat = np.bincount(predicted.labels * num_classes + given, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def worst_mistakes(predicted: LabelledLogits, count: int) -> list[Mistake]:
    """The wrong predictions given with most confidence, worst first."""
    probabilities_NK = softmax(predicted.logits_NK)
    given = probabilities_NK.argmax(axis=1)
    sure = np.where(given == predicted.labels, -1.0, probabilities_NK.max(axis=1))
    order = np.argsort(-sure, kind="stable")[:count]
    return [
        Mistake(
            index=int(predicted.indices[i]),
            label=int(predicted.labels[i]),
            predicted=int(given[i]),
            probability=float(sure[i]),
        )
        for i in order
        if sure[i] >= 0
    ]


def most_confused(matrix: npt.NDArray[np.int64], count: int) -> list[Confused]:
    """The pairs of classes confused most often, most first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(matrix)) for place in order]
    return [
        Confused(
            label=row, predicted=column, count=int(wrong[row, column]), total=int(matrix[row].sum())
        )
        for row, column in pairs
        if wrong[row, column]
    ]


def calibration_error(predicted: LabelledLogits, num_bins: int = 15) -> float:
    """Expected calibration error (arXiv 1706.04599), in points: confidence minus accuracy."""
    probabilities_NK = softmax(predicted.logits_NK)
    confidence = probabilities_NK.max(axis=1)
    right = probabilities_NK.argmax(axis=1) == predicted.labels
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    error = 0.0
    for each in range(num_bins):
        inside = bins == each
        if inside.any():
            error += abs(float(confidence[inside].sum() - right[inside].sum()))
    return 100 * error / len(right)


def wilson_interval(percent: float, num_images: int) -> tuple[float, float]:
    """The 95% interval of a measured percentage (Wilson, 1927), in percent."""
    z, p = 1.96, percent / 100
    centre = (p + z * z / (2 * num_images)) / (1 + z * z / num_images)
    spread = math.sqrt(p * (1 - p) / num_images + z * z / (4 * num_images**2))
    spread *= z / (1 + z * z / num_images)
    return max(0.0, 100 * (centre - spread)), min(100.0, 100 * (centre + spread))
