"""Labelled images through any network: top-1, top-5, and agreement with another network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from squeezenet.arch.record import ModelRecord
from squeezenet.errors import ClassCountError
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import Float32Array, normalise
from squeezenet.images.sets import ImageSet
from squeezenet.images.topk import kl_divergence, num_in_top_k, top_k
from squeezenet.progress import Progress, SilentProgress

Network: TypeAlias = Callable[[Float32Array], Float32Array]
"""float32 input (N, C, H, W) -> logits (N, K)."""


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


def evaluate(
    network: Network,
    record: ModelRecord,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a network on batches labelled with its outputs.

    Raises:
        DataError, ImageError: see ``EvalBatches``.
    """
    num_images = num_top1 = num_top5 = 0
    with (progress or SilentProgress()).task("evaluate", total=len(batches), unit="img") as task:
        for batch in batches:
            logits_NK = network(normalise(batch.pixels_NHWC, record.preprocessing))
            num_images += len(logits_NK)
            num_top1 += num_in_top_k(logits_NK, batch.labels, 1)
            num_top5 += num_in_top_k(logits_NK, batch.labels, 5)
            task.advance(len(logits_NK), f"top-1 {100 * num_top1 / num_images:.1f}%")
    return Evaluation(
        top1=100 * num_top1 / num_images,
        top5=100 * num_top5 / num_images,
        images=num_images,
        skipped=batches.bad.count,
    )


def compare(
    network: Network,
    record: ModelRecord,
    other: Network,
    other_record: ModelRecord,
    images: ImageSet,
    *,
    workers: int,
    progress: Progress | None = None,
) -> Comparison:
    """Set a network beside another, each with its own preprocessing, on the same images.

    Images that cannot be read are left out of both.

    Raises:
        ClassCountError: the two do not answer with the same classes.
    """
    if record.class_names != other_record.class_names:
        raise ClassCountError(
            f"{record.spec.name} and {other_record.spec.name} have different classes "
            f"({len(record.class_names)} and {len(other_record.class_names)}); "
            "only networks of the same classes can be compared"
        )
    sides: list[tuple[Network, ModelRecord]] = [(network, record), (other, other_record)]
    logits: list[list[Float32Array]] = [[], []]
    labels: list[int] = []
    with (progress or SilentProgress()).task("compare", total=2 * len(images), unit="img") as task:
        for i, (side, side_record) in enumerate(sides):
            for batch in EvalBatches(images, side_record.preprocessing, workers=workers):
                logits[i].append(side(normalise(batch.pixels_NHWC, side_record.preprocessing)))
                task.advance(len(batch.labels))
                if i == 0:
                    labels += batch.labels.tolist()
    these_NK, others_NK = (np.concatenate(parts) for parts in logits)
    label_array = np.array(labels, np.int64)[:, None]
    differences = []
    for k in (1, 5):
        right, other_right = (
            (top_k(x, k) == label_array).any(axis=1).astype(np.float64)
            for x in (these_NK, others_NK)
        )
        paired = 100 * (right - other_right)
        differences += [float(paired.mean()), float(paired.std() / math.sqrt(len(paired)))]
    return Comparison(
        agreement=float(100 * (top_k(these_NK, 1) == top_k(others_NK, 1)).mean()),
        kl=float(kl_divergence(others_NK, these_NK).mean()),
        top1_difference=differences[0],
        top1_standard_error=differences[1],
        top5_difference=differences[2],
        top5_standard_error=differences[3],
    )
