"""A classifier's errors in numbers: confusions, worst mistakes, confidence interval.

Legend: N images, K classes, P pairs of class and predicted class that occur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.evaluation.metrics import top_probability
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.images.sets import Labels


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusions:
    """A confusion matrix without its zeros, which are nearly all of it where K is large.

    ``counts_P`` images of class ``labels_P`` were predicted as ``predicted_P``: a pair of classes
    each, in the order of the matrix.
    """

    num_classes: int
    labels_P: Labels
    predicted_P: Labels
    counts_P: Labels

    @property
    def images_K(self) -> Labels:
        """The images of each class."""
        return self._sums(self.labels_P)

    @property
    def predictions_K(self) -> Labels:
        """The images that were predicted as each class."""
        return self._sums(self.predicted_P)

    @property
    def correct_K(self) -> Labels:
        """The images of each class that were predicted as this class."""
        return self._sums(self.labels_P, self.labels_P == self.predicted_P)

    def most_mistaken(self, count: int) -> Labels:
        """Return so many classes with the most mistakes, as class or as prediction, in order.

        Of equals the lower class is taken.
        """
        wrong = self.labels_P != self.predicted_P
        mistakes_K = self._sums(self.labels_P, wrong) + self._sums(self.predicted_P, wrong)
        # Images decide where mistakes do not.
        order = np.lexsort((-self.images_K, -mistakes_K))
        return np.sort(order[:count])

    def matrix(self, classes: Labels) -> Labels:
        """Return the matrix of some classes, given in ascending order."""
        rows, columns = (
            np.minimum(np.searchsorted(classes, each), len(classes) - 1)
            for each in (self.labels_P, self.predicted_P)
        )
        inside = (classes[rows] == self.labels_P) & (classes[columns] == self.predicted_P)
        matrix = np.zeros((len(classes), len(classes)), np.int64)
        matrix[rows[inside], columns[inside]] = self.counts_P[inside]
        return matrix

    def _sums(self, classes_P: Labels, where: npt.NDArray[np.bool_] | None = None) -> Labels:
        counts_P = self.counts_P if where is None else self.counts_P * where
        sums = np.zeros(self.num_classes, np.int64)
        np.add.at(sums, classes_P, counts_P)
        return sums


def confusions(predicted: LabelledLogits) -> Confusions:
    """Count images by class and predicted class."""
    num_classes = predicted.logits_NK.shape[1]
    top1 = predicted.logits_NK.argmax(axis=1)
    places, counts = np.unique(predicted.labels * num_classes + top1, return_counts=True)
    return Confusions(
        num_classes=num_classes,
        labels_P=places // num_classes,
        predicted_P=places % num_classes,
        counts_P=counts,
    )


def worst_mistakes(predicted: LabelledLogits, count: int) -> list[Mistake]:
    """Return the wrong predictions with the highest probabilities, worst first."""
    top1, probability = top_probability(predicted.logits_NK)
    confidence = np.where(top1 == predicted.labels, -1.0, probability)
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


def most_confused(confused: Confusions, count: int) -> list[Confused]:
    """Return the pairs of classes that are confused most often, most frequent first."""
    wrong = np.flatnonzero(confused.labels_P != confused.predicted_P)
    order = wrong[np.argsort(-confused.counts_P[wrong], kind="stable")][:count]
    images_K = confused.images_K
    return [
        Confused(
            label=int(confused.labels_P[i]),
            predicted=int(confused.predicted_P[i]),
            count=int(confused.counts_P[i]),
            total=int(images_K[confused.labels_P[i]]),
        )
        for i in order
    ]


def wilson_interval(percent: float, num_images: int) -> tuple[float, float]:
    """Return the 95% interval of a measured percentage (Wilson 1927), in percent."""
    z, p = 1.96, percent / 100
    centre = (p + z * z / (2 * num_images)) / (1 + z * z / num_images)
    spread = math.sqrt(p * (1 - p) / num_images + z * z / (4 * num_images**2))
    spread *= z / (1 + z * z / num_images)
    return max(0.0, 100 * (centre - spread)), min(100.0, 100 * (centre + spread))
