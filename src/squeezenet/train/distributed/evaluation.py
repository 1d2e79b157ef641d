"""Evaluation by all ranks: each image is counted once, in the batches of a single process."""

from __future__ import annotations

import numpy as np

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import DataError
from squeezenet.evaluation.metrics import Evaluation, num_in_top_k, score
from squeezenet.evaluation.predict import LabelledLogits, LogitsFn, predict
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from squeezenet.images.sets import ImageSet
from squeezenet.progress import Progress
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks


def batches_of_rank(
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    workers: int | None,
    batch_size: int = 32,
    bad: BadImages | None = None,
    ranks: Ranks = ONE_RANK,
) -> EvalBatches:
    """Return the batches of this rank: all of them for a process alone."""
    part = part_of_rank(len(images), batch_size, ranks) if ranks.size > 1 else None
    return EvalBatches(
        images, preprocessing, workers=workers, batch_size=batch_size, bad=bad, part=part
    )


def part_of_rank(num_images: int, batch_size: int, ranks: Ranks) -> range:
    """Return the images of this rank: whole batches, in the order of the set."""
    num_batches = -(-num_images // batch_size)
    first, last = (num_batches * r // ranks.size * batch_size for r in (ranks.rank, ranks.rank + 1))
    return range(first, min(last, num_images))


def evaluate_on_ranks(
    network: LogitsFn,
    record: ModelRecord,
    batches: EvalBatches,
    ranks: Ranks,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure the accuracy of a network on the images of all ranks' ``batches``, alike on each.

    Raises:
        DataError: none of the images can be read; see ``predict`` in ``evaluation``.
        WeightsError, ImageError: see there.
    """
    found = ranks.together(lambda: predict(network, record, batches, progress=progress))
    if ranks.size == 1:
        return score(found)
    counts = [num_in_top_k(found.logits_NK, found.labels, k) for k in (1, 5)]
    counts += [len(found.labels), found.skipped]
    top1, top5, images, skipped = (int(count) for count in ranks.sum(counts))
    _require_some(images, skipped)
    return Evaluation(
        top1=100 * top1 / images, top5=100 * top5 / images, images=images, skipped=skipped
    )


def predict_on_ranks(
    network: LogitsFn,
    record: ModelRecord,
    batches: EvalBatches,
    ranks: Ranks,
    *,
    progress: Progress | None = None,
) -> LabelledLogits:
    """Return a network's logits on the images of all ranks' ``batches``, the same on each.

    Raises:
        DataError, WeightsError, ImageError: as ``evaluate_on_ranks`` does.
    """
    found = ranks.together(lambda: predict(network, record, batches, progress=progress))
    if ranks.size == 1:
        return found
    parts = ranks.gather(found)
    skipped = sum(part.skipped for part in parts)
    _require_some(sum(len(part.labels) for part in parts), skipped)
    return LabelledLogits(
        logits_NK=np.concatenate([part.logits_NK for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        indices=np.concatenate([part.indices for part in parts]),
        skipped=skipped,
    )


def _require_some(num_images: int, skipped: int) -> None:
    if not num_images:
        raise DataError(f"none of the {skipped} images could be read; see the messages above")
