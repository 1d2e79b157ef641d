"""Whether probabilities mean what they say: calibration error, reliability bins, temperature.

A network is calibrated if, of the predictions with probability p, a share p is right. Temperature
scaling divides all logits by one number T, fitted on labelled images (arXiv 1706.04599). It changes
probabilities and no prediction.
Legend: N images, K classes, B bins of confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from squeezenet.evaluation.metrics import row_blocks, softmax, top_probability
from squeezenet.evaluation.predict import LabelledLogits

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.images.preprocess import Float32Array
    from squeezenet.images.sets import Labels

NUM_BINS = 15
"""As in arXiv 1706.04599."""
MAX_TEMPERATURE = 4.0
"""A temperature is between a quarter of 1 and this."""
LOG_TEMPERATURE_DEVIATION = math.log(2)
"""Standard deviation of the prior of ln T, whose mean is 0. It keeps T near 1 where images are few
(without it, T would be 0 if all are right), and is nothing beside hundreds of images. A choice, not
measured."""
_NUM_BISECTIONS = 18
"""They leave an error of T of 1e-5."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Predictions by confidence, in bins of equal width from 0 to 1.

    ``counts_B``: predictions of each bin. ``confidence_B`` and ``accuracy_B``: their mean
    probability and the share that is right, 0 to 1; NaN for an empty bin.
    """

    counts_B: Labels
    confidence_B: npt.NDArray[np.float64]
    accuracy_B: npt.NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error in percentage points.

        It is the mean over the images of |confidence - accuracy| of their bins.
        """
        filled = self.counts_B > 0
        gaps_B = np.abs(self.confidence_B[filled] - self.accuracy_B[filled])
        return float(100 * (self.counts_B[filled] * gaps_B).sum() / self.counts_B.sum())


def reliability(predicted: LabelledLogits, num_bins: int = NUM_BINS) -> Reliability:
    """Sort predictions by confidence, and count how many are right."""
    top1, confidence = top_probability(predicted.logits_NK)
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    counts_B = np.bincount(bins, minlength=num_bins)
    correct_B = np.bincount(bins, top1 == predicted.labels, minlength=num_bins)
    sums_B = np.bincount(bins, confidence, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            counts_B=counts_B, confidence_B=sums_B / counts_B, accuracy_B=correct_B / counts_B
        )


def calibration_error(predicted: LabelledLogits) -> float:
    """Return the expected calibration error (arXiv 1706.04599, 15 bins) in percentage points."""
    return reliability(predicted).error


def fit_temperature(predicted: LabelledLogits) -> float:
    """Return the temperature T that fits labelled predictions best, rounded to 4 decimals.

    It minimises the sum of -ln p(label) at logits / T, and ln(T)^2 / 2s^2 for the prior of ln T,
    whose deviation s is ``LOG_TEMPERATURE_DEVIATION``. Without an image it is 1.
    """

    def slope(log_t: float) -> float:
        beta = math.exp(-log_t)
        return log_t / LOG_TEMPERATURE_DEVIATION**2 - beta * _logit_excess(predicted, beta)

    high = math.log(MAX_TEMPERATURE)
    low = -high
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return round(math.exp((low + high) / 2), 4)


def _logit_excess(predicted: LabelledLogits, beta: float) -> float:
    """The sum over images of the mean logit, by softmax(beta logits), less the label's logit."""
    logits_NK, total = predicted.logits_NK, 0.0
    for rows in row_blocks(logits_NK):
        block_NK, labels = logits_NK[rows].astype(np.float64), predicted.labels[rows]
        if len(labels):
            mean_N = (softmax(block_NK * beta) * block_NK).sum(axis=1)
            total += float((mean_N - block_NK[np.arange(len(labels)), labels]).sum())
    return total


def at_temperature(predicted: LabelledLogits, temperature: float) -> LabelledLogits:
    """Return the predictions with all logits divided by ``temperature``."""
    logits_NK: Float32Array = predicted.logits_NK / np.float32(temperature)
    return LabelledLogits(
        logits_NK=logits_NK,
        labels=predicted.labels,
        indices=predicted.indices,
        skipped=predicted.skipped,
    )


def recorded_temperature(record: ModelRecord) -> float:
    """Return the temperature that a file's logits are divided by, as its record says; else 1.

    Two networks are compared by KL divergence without their temperatures.
    """
    found = record.provenance.get("temperature")
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 1e-6 < found < 1e6:
        return 1.0
    return float(found)
