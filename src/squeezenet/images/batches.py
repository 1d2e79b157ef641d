"""An image set -> batches of cropped pixels, decoded in worker processes, bad ones left out."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.errors import DataError, ImageError
from squeezenet.images.decode import Pixels
from squeezenet.images.preprocess import crop_pixels
from squeezenet.images.sets import ImageSet, Labels

_MIN_IMAGES_FOR_WORKERS = 64
"""Starting processes takes longer than decoding fewer images than these."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Cropped ``pixels_NHWC`` (uint8), their ``labels``, and their places in the set."""

    pixels_NHWC: Pixels
    labels: Labels
    indices: Labels


@dataclass
class BadImages:
    """What happens to images that cannot be read: reported, counted, or, if strict, an error."""

    strict: bool = False
    report: Callable[[str], None] = lambda message: None
    messages: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Take note of one bad image.

        Raises:
            ImageError: when strict.
        """
        if self.strict:
            raise ImageError(message)
        if message not in self.messages:
            self.messages.append(message)
            self.report(f"skipped {message}")

    def __len__(self) -> int:
        return len(self.messages)


def iter_batches(
    images: ImageSet,
    record: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    bad: BadImages,
) -> Iterator[Batch]:
    """Yield the set in order. With ``workers`` 0, or for a few images, decode in this process.

    Raises:
        DataError: not one image of the set could be read.
        ImageError: one could not, and ``bad`` is strict.
    """
    num_good = 0
    for indices, results in _decoded(images, record, batch_size, workers):
        good = []
        for index, result in zip(indices, results, strict=True):
            if isinstance(result, str):
                bad.add(result)
            else:
                good.append((index, result))
        if good:
            num_good += len(good)
            kept = np.array([index for index, _ in good], np.int64)
            yield Batch(
                pixels_NHWC=np.stack([pixels for _, pixels in good]),
                labels=images.labels[kept],
                indices=kept,
            )
    if not num_good:
        raise DataError(f"none of the {len(images)} images could be read; see the messages above")


def _decoded(
    images: ImageSet, record: Preprocessing, batch_size: int, workers: int
) -> Iterator[tuple[range, list[Pixels | str]]]:
    chunks = [
        range(start, min(start + batch_size, len(images)))
        for start in range(0, len(images), batch_size)
    ]
    if workers == 0 or len(images) < _MIN_IMAGES_FOR_WORKERS:
        for chunk in chunks:
            yield chunk, _decode_chunk(images, record, chunk)
        return
    # "spawn": a forked child of a process with BLAS or torch threads may hang.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (images, record)
    ) as pool:
        pending: deque[tuple[range, Future[list[Pixels | str]]]] = deque()
        try:
            for chunk in chunks:
                pending.append((chunk, pool.submit(_work, chunk)))
                if len(pending) > 2 * workers:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_chunk(images: ImageSet, record: Preprocessing, chunk: range) -> list[Pixels | str]:
    """Pixels of each image, or the message of its error."""
    results: list[Pixels | str] = []
    for index in chunk:
        try:
            results.append(crop_pixels(images.pixels(index), record))
        except ImageError as error:
            results.append(str(error))
    return results


_worker_state: tuple[ImageSet, Preprocessing] | None = None
"""What a worker process works on; set once when it starts, never in the parent."""


def _start_worker(images: ImageSet, record: Preprocessing) -> None:
    global _worker_state
    _worker_state = (images, record)


def _work(chunk: range) -> list[Pixels | str]:
    assert _worker_state is not None
    return _decode_chunk(*_worker_state, chunk)
