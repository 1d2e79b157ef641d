"""Metrics of logits: probabilities, top-k accuracy, agreement and KL divergence of two networks.

Legend: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from squeezenet.arch.class_labels import classes_hint
from squeezenet.errors import ClassCountError

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.evaluation.predict import LabelledLogits
    from squeezenet.images.preprocess import Float32Array
    from squeezenet.images.sets import Labels

_BLOCK_VALUES = 1 << 20
"""Rows are computed so many values at a time: 8 MB per array of float64."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Top-1 and top-5 accuracy in percent on ``images`` images; ``skipped`` could not be read."""

    top1: float
    top5: float
    images: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A network compared with a reference network on the same images.

    ``agreement``: percent of images with the same top-1 class. ``kl``: mean KL(reference || this)
    in nats. ``top1_difference`` and ``top5_difference``: accuracy of this network minus that of
    the reference, in percentage points. The standard errors are of the differences paired by
    image.
    """

    agreement: float
    kl: float
    top1_difference: float
    top1_standard_error: float
    top5_difference: float
    top5_standard_error: float


def score(predicted: LabelledLogits) -> Evaluation:
    """Compute top-1 and top-5 accuracy."""
    num_images = len(predicted.labels)
    return Evaluation(
        top1=100 * num_in_top_k(predicted.logits_NK, predicted.labels, 1) / num_images,
        top5=100 * num_in_top_k(predicted.logits_NK, predicted.labels, 5) / num_images,
        images=num_images,
        skipped=predicted.skipped,
    )


def compare(predicted: LabelledLogits, reference: LabelledLogits) -> Comparison:
    """Compare a network's logits with a reference's; both must be of the same images."""
    assert np.array_equal(predicted.indices, reference.indices)
    labels = predicted.labels[:, None]
    differences = []
    for k in (1, 5):
        correct, reference_correct = (
            (top_k(side.logits_NK, k) == labels).any(axis=1).astype(np.float64)
            for side in (predicted, reference)
        )
        paired = 100 * (correct - reference_correct)
        differences += [float(paired.mean()), float(paired.std() / math.sqrt(len(paired)))]
    same = top_k(predicted.logits_NK, 1) == top_k(reference.logits_NK, 1)
    return Comparison(
        agreement=float(100 * same.mean()),
        kl=float(kl_divergence(reference.logits_NK, predicted.logits_NK).mean()),
        top1_difference=differences[0],
        top1_standard_error=differences[1],
        top5_difference=differences[2],
        top5_standard_error=differences[3],
    )


def require_same_classes(record: ModelRecord, other: ModelRecord) -> None:
    """Refuse to compare networks with different classes.

    Raises:
        ClassCountError: the class names differ.
    """
    if record.class_names != other.class_names:
        hint = classes_hint(record.class_names) or classes_hint(other.class_names)
        raise ClassCountError(
            f"{record.spec.name} and {other.spec.name} have different classes "
            f"({len(record.class_names)} and {len(other.class_names)}); "
            f"only networks of the same classes can be compared{hint}"
        )


def softmax(logits_NK: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return probabilities (N, K); rows sum to 1."""
    shifted = logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def top_probability(logits_NK: Float32Array) -> tuple[Labels, npt.NDArray[np.float64]]:
    """Return the top class of each row and its probability, (N,) each."""
    classes, probabilities = [], []
    for rows in row_blocks(logits_NK):
        probabilities_NK = softmax(logits_NK[rows])
        classes.append(probabilities_NK.argmax(axis=1))
        probabilities.append(probabilities_NK.max(axis=1))
    return np.concatenate(classes), np.concatenate(probabilities)


def top_k(logits_NK: Float32Array, k: int) -> Labels:
    """Return the k top classes of each row (N, k), best first; ties go to the lower index."""
    return np.concatenate(
        [
            np.argsort(-logits_NK[rows], axis=1, kind="stable")[:, :k].astype(np.int64)
            for rows in row_blocks(logits_NK)
        ]
    )


def num_in_top_k(logits_NK: Float32Array, labels: Labels, k: int) -> int:
    """Count the rows whose label is among their top k classes."""
    return int((top_k(logits_NK, k) == labels[:, None]).any(axis=1).sum())


def kl_divergence(reference_NK: Float32Array, other_NK: Float32Array) -> Float32Array:
    """Return KL(reference || other) of each row in nats, float32 (N,)."""
    tiny = np.finfo(np.float64).tiny
    divergences = []
    for rows in row_blocks(reference_NK):
        p, q = softmax(reference_NK[rows]), softmax(other_NK[rows])
        terms = p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny)))
        divergences.append(np.asarray(terms.sum(axis=1), np.float32))
    return np.concatenate(divergences)


def row_blocks(values_NK: Float32Array) -> Iterator[slice]:
    """Yield slices of the rows, so that what is computed of all classes takes little memory."""
    num_rows, num_classes = values_NK.shape
    step = max(1, _BLOCK_VALUES // max(1, num_classes))
    for start in range(0, max(1, num_rows), step):
        yield slice(start, start + step)
