"""Run any network on labelled images: pixels in, logits with their labels out.

Legend: N images, H W C of the crop, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from squeezenet.errors import DataError, WeightsError
from squeezenet.evaluation.metrics import Evaluation, num_in_top_k, score
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.images.batches import EvalBatches
    from squeezenet.images.decode import Pixels
    from squeezenet.images.preprocess import Float32Array
    from squeezenet.images.sets import Labels

LogitsFn: TypeAlias = "Callable[[Pixels], Float32Array]"
"""Cropped uint8 pixels (N, H, W, C) -> float32 logits (N, K)."""

MAX_LOGITS_BYTES = 1 << 32
"""Most bytes that the predictions of a set may take: ImageNet's 50,000 for validation take 200 MB.
A small model file can claim 65,536 classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledLogits:
    """A network's logits on a labelled set.

    ``logits_NK``, ``labels`` and ``indices`` (into the set) have one row per readable image;
    ``skipped`` counts the unreadable ones.
    """

    logits_NK: Float32Array
    labels: Labels
    indices: Labels
    skipped: int


def predict(
    network: LogitsFn,
    record: ModelRecord,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
) -> LabelledLogits:
    """Run a network over batches; labels are indices of its outputs (``with_model_labels``).

    Raises:
        WeightsError: a logit is not finite.
        DataError: all logits would take more than ``MAX_LOGITS_BYTES``; see ``EvalBatches`` too.
        ImageError: see ``EvalBatches``.
    """
    num_classes = record.spec.num_classes
    logits_bytes = len(batches) * num_classes * np.dtype(np.float32).itemsize
    if logits_bytes > MAX_LOGITS_BYTES:
        raise DataError(
            f"{record.spec.name}: the predictions of {len(batches):,} images in {num_classes:,} "
            f"classes take {logits_bytes:,} bytes, expected at most {MAX_LOGITS_BYTES:,}; "
            "use fewer images"
        )
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
    no_logits, no_labels = np.zeros((0, num_classes), np.float32), np.zeros(0, np.int64)
    return LabelledLogits(
        logits_NK=np.concatenate([no_logits, *logits]),
        labels=np.concatenate([no_labels, *labels]),
        indices=np.concatenate([no_labels, *indices]),
        skipped=len(batches) - num_images,
    )


def evaluate(
    network: LogitsFn,
    record: ModelRecord,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure the accuracy of a network; raises the errors of ``predict``."""
    return score(predict(network, record, batches, progress=progress))


def require_finite(logits_NK: Float32Array, record: ModelRecord) -> None:
    """Refuse logits that are infinite or NaN.

    Raises:
        WeightsError: a logit is not finite.
    """
    if not np.isfinite(logits_NK).all():
        raise WeightsError(
            f"{record.spec.name}: logits are not finite numbers; weights or preprocessing are "
            "damaged, use another copy of the model"
        )
