"""Labelled images through any network: top-1, top-5, and agreement with another network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from squeezenet.errors import ClassCountError, WeightsError
from squeezenet.images.decode import Pixels
from squeezenet.images.topk import kl_divergence, num_in_top_k, top_k
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.images.batches import EvalBatches
    from squeezenet.images.preprocess import Float32Array
    from squeezenet.images.sets import Labels

Network: TypeAlias = "Callable[[Pixels], Float32Array]"
"""Cropped uint8 pixels (N, H, W, C) -> logits (N, K)."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Percent right among ``images`` images; ``skipped`` ones could not be read."""

    top1: float
    top5: float
    images: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A network beside another on the same images.

    ``agreement``: percent of equal top-1 answers. ``kl``: mean KL(other || this) in nats.
    ``top1_difference`` and ``top5_difference``: this minus other in points, paired, with their
    standard errors.
    """

    agreement: float
    kl: float
    top1_difference: float
    top1_standard_error: float
    top5_difference: float
    top5_standard_error: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a network said: ``logits_NK`` of the images at places ``indices`` of a set, their
    ``labels``, and how many images were skipped."""

    logits_NK: Float32Array
    labels: Labels
    indices: Labels
    skipped: int


def answer(
    network: Network,
    record: ModelRecord,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
) -> Answers:
    """Run a network over batches labelled with its outputs.

    Raises:
        DataError, ImageError: see ``EvalBatches``.
    """
    logits, labels, indices = [], [], []
    num_images = num_top1 = 0
    with (progress or SilentProgress()).task("evaluate", total=len(batches), unit="img") as task:
        for batch in batches:
            logits_NK = network(batch.pixels_NHWC)
            require_finite(logits_NK, record)
            logits.append(logits_NK)
            labels.append(batch.labels)
            indices.append(batch.indices)
            num_images += len(logits_NK)
            num_top1 += num_in_top_k(logits_NK, batch.labels, 1)
            task.advance(len(logits_NK), f"top-1 {100 * num_top1 / num_images:.1f}%")
    return Answers(
        logits_NK=np.concatenate(logits),
        labels=np.concatenate(labels),
        indices=np.concatenate(indices),
        skipped=len(batches) - num_images,
    )


def require_finite(logits_NK: Float32Array, record: ModelRecord) -> None:
    """Refuse answers that mean nothing.

    Raises:
        WeightsError: a logit is not a finite number, so the weights are useless.
    """
    if not np.isfinite(logits_NK).all():
        raise WeightsError(
            f"{record.spec.name}: its answers are not finite numbers; the weights or the "
            "preprocessing are damaged"
        )


def score(answers: Answers) -> Evaluation:
    """Count how often answers are right."""
    num_images = len(answers.labels)
    return Evaluation(
        top1=100 * num_in_top_k(answers.logits_NK, answers.labels, 1) / num_images,
        top5=100 * num_in_top_k(answers.logits_NK, answers.labels, 5) / num_images,
        images=num_images,
        skipped=answers.skipped,
    )


def evaluate(
    network: Network,
    record: ModelRecord,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """``score`` what ``answer`` gives."""
    return score(answer(network, record, batches, progress=progress))


def require_same_classes(record: ModelRecord, other: ModelRecord) -> None:
    """Refuse to compare networks that do not answer with the same classes.

    Raises:
        ClassCountError: they do not.
    """
    if record.class_names != other.class_names:
        raise ClassCountError(
            f"{record.spec.name} and {other.spec.name} have different classes "
            f"({len(record.class_names)} and {len(other.class_names)}); "
            "only networks of the same classes can be compared"
        )


def compare(these: Answers, others: Answers) -> Comparison:
    """Set a network's answers beside another's, on the same images."""
    assert np.array_equal(these.indices, others.indices)
    labels = these.labels[:, None]
    differences = []
    for k in (1, 5):
        right, other_right = (
            (top_k(side.logits_NK, k) == labels).any(axis=1).astype(np.float64)
            for side in (these, others)
        )
        paired = 100 * (right - other_right)
        differences += [float(paired.mean()), float(paired.std() / math.sqrt(len(paired)))]
    same = top_k(these.logits_NK, 1) == top_k(others.logits_NK, 1)
    return Comparison(
        agreement=float(100 * same.mean()),
        kl=float(kl_divergence(others.logits_NK, these.logits_NK).mean()),
        top1_difference=differences[0],
        top1_standard_error=differences[1],
        top5_difference=differences[2],
        top5_standard_error=differences[3],
    )
