"""A classifier's errors in numbers: confusions, worst mistakes, calibration, confidence interval.

Legend: N images, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.evaluation.metrics import softmax
from squeezenet.evaluation.predict import LabelledLogits


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong prediction: image ``index`` of the set, its class, and the predicted one."""

    index: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Confused:
    """``count`` of the ``total`` images of class ``label`` were predicted as ``predicted``."""

    label: int
    predicted: int
    count: int
    total: int


def confusion_matrix(predicted: LabelledLogits) -> npt.NDArray[np.int64]:
    """Count images by class (row) and predicted class (column): (K, K)."""
    num_classes = predicted.logits_NK.shape[1]
    top1 = predicted.logits_NK.argmax(axis=1)
    flat = np.bincount(predicted.labels * num_classes + top1, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def worst_mistakes(predicted: LabelledLogits, count: int) -> list[Mistake]:
    """Return the wrong predictions with the highest probabilities, worst first."""
    probabilities_NK = softmax(predicted.logits_NK)
    top1 = probabilities_NK.argmax(axis=1)
    confidence = np.where(top1 == predicted.labels, -1.0, probabilities_NK.max(axis=1))
    order = np.argsort(-confidence, kind="stable")[:count]
    return [
        Mistake(
            index=int(predicted.indices[i]),
            label=int(predicted.labels[i]),
            predicted=int(top1[i]),
            probability=float(confidence[i]),
        )
        for i in order
        if confidence[i] >= 0
    ]


def most_confused(matrix: npt.NDArray[np.int64], count: int) -> list[Confused]:
    """Return the pairs of classes that are confused most often, most frequent first."""
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
    """Return the expected calibration error (arXiv 1706.04599) in percentage points.

    It is the mean of |confidence - accuracy| over the images, in bins of equal confidence; 15 bins
    as in that paper.
    """
    probabilities_NK = softmax(predicted.logits_NK)
    confidence = probabilities_NK.max(axis=1)
    correct = probabilities_NK.argmax(axis=1) == predicted.labels
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    error = 0.0
    for each in range(num_bins):
        inside = bins == each
        if inside.any():
            error += abs(float(confidence[inside].sum() - correct[inside].sum()))
    return 100 * error / len(correct)


def wilson_interval(percent: float, num_images: int) -> tuple[float, float]:
    """Return the 95% interval of a measured percentage (Wilson 1927), in percent."""
    z, p = 1.96, percent / 100
    centre = (p + z * z / (2 * num_images)) / (1 + z * z / num_images)
    spread = math.sqrt(p * (1 - p) / num_images + z * z / (4 * num_images**2))
    spread *= z / (1 + z * z / num_images)
    return max(0.0, 100 * (centre - spread)), min(100.0, 100 * (centre + spread))
