"""An image set -> batches of cropped pixels, decoded in worker processes, unreadable ones left out.

Legend: N images, H W C height, width and channels of the crop.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.errors import DataError, ImageError
from squeezenet.images.bad import BadImages, with_notes
from squeezenet.images.decode import Pixels
from squeezenet.images.preprocess import crop_pixels
from squeezenet.images.sets import ArrayImages, ImageSet, Labels
from squeezenet.launch import num_cores

_MIN_IMAGES_FOR_WORKERS = 64
"""Below this, starting worker processes does not pay. Measured on two cores: they take 0.8 s to
start, while one process decodes 64 photographs of 0.1 megapixel in 0.5 s, of 12 megapixels in
30 s."""
_MAX_DEFAULT_WORKERS = 4
"""One process crops 120 photographs of 0.1 megapixel per second (measured); four outrun the
networks here on a few cores."""
_MAX_CACHED_BYTES = 1 << 30
"""Largest set of cropped images that is kept in memory: 7,000 crops of 224x224."""


DecodedChunk: TypeAlias = "tuple[list[Pixels | str], list[str]]"
"""The pixels of each image or the message of its error, and notes on images that were read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Cropped ``pixels_NHWC`` (uint8), their ``labels`` (int64) and ``indices`` in the set."""

    pixels_NHWC: Pixels
    labels: Labels
    indices: Labels


def default_workers() -> int:
    """Return the default number of worker processes: one per core, at most 4.

    The ranks of a machine share its cores.
    """
    return min(_MAX_DEFAULT_WORKERS, num_cores())


class EvalBatches:
    """An image set in order, cropped as the preprocessing says; can be iterated many times.

    Sets of up to 1 GiB of cropped pixels are decoded once. ``len`` is the number of images.
    ``workers``: number of decoding processes; 0 decodes in this process, as do sets of fewer than
    64 images. None is ``default_workers()`` for files and 0 for images in memory.
    ``part``: only these images of the set, for one of several processes that share it. It may be
    empty, and none of its images need be readable.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        *,
        workers: int | None,
        batch_size: int = 32,
        bad: BadImages | None = None,
        part: range | None = None,
    ) -> None:
        self.images = images
        self.part = range(len(images)) if part is None else part
        self.batch_size = batch_size
        self._is_whole = part is None
        self.bad = bad if bad is not None else BadImages()
        self._preprocessing = preprocessing
        if workers is None:
            workers = 0 if isinstance(images, ArrayImages) else default_workers()
        self._workers = workers
        self._cache: list[Batch] | None = None

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches.

        Raises:
            DataError: no image of the set could be read.
            ImageError: an image could not be read, and ``bad`` is strict.
        """
        if self._cache is not None:
            yield from self._cache
            return
        image_bytes = (
            self._preprocessing.num_channels
            * self._preprocessing.crop[0]
            * self._preprocessing.crop[1]
        )
        cache: list[Batch] | None = []
        if image_bytes * len(self.part) > _MAX_CACHED_BYTES:
            cache = None
        num_good = 0
        for batch in self._decode():
            num_good += len(batch.labels)
            if cache is not None:
                cache.append(batch)
            yield batch
        if not num_good and self._is_whole:
            raise DataError(
                f"none of the {len(self.images)} images could be read; see the messages above"
            )
        self._cache = cache

    def _decode(self) -> Iterator[Batch]:
        for indices, (results, notes) in _decoded(
            self.images, self._preprocessing, self.part, self.batch_size, self._workers
        ):
            good = []
            for note in notes:
                self.bad.note(note)
            for index, result in zip(indices, results, strict=True):
                if isinstance(result, str):
                    self.bad.add(result)
                else:
                    good.append((index, result))
            if good:
                readable = np.array([index for index, _ in good], np.int64)
                yield Batch(
                    pixels_NHWC=np.stack([pixels for _, pixels in good]),
                    labels=self.images.labels[readable],
                    indices=readable,
                )


def _decoded(
    images: ImageSet, preprocessing: Preprocessing, part: range, batch_size: int, workers: int
) -> Iterator[tuple[range, DecodedChunk]]:
    chunks = [part[start : start + batch_size] for start in range(0, len(part), batch_size)]
    if workers == 0 or len(part) < _MIN_IMAGES_FOR_WORKERS:
        for chunk in chunks:
            yield chunk, _decode_chunk(images, preprocessing, chunk)
        return
    # "spawn": a forked child of a process with BLAS or torch threads can hang.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (images, preprocessing)
    ) as pool:
        pending: deque[tuple[range, Future[DecodedChunk]]] = deque()
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


def _decode_chunk(images: ImageSet, preprocessing: Preprocessing, chunk: range) -> DecodedChunk:
    results: list[Pixels | str] = []
    all_notes: list[str] = []
    for index in chunk:
        try:
            pixels_HWC, notes = with_notes(partial(images.pixels, index))
        except ImageError as error:
            results.append(str(error))
            continue
        results.append(crop_pixels(pixels_HWC, preprocessing))
        all_notes += notes
    return results, all_notes


_worker_state: tuple[ImageSet, Preprocessing] | None = None
"""The set that this worker process decodes; set once at its start, never in the parent."""


def init_worker_process() -> None:
    """Prepare a worker process; call this first in each.

    Ignores SIGINT and SIGTERM, which a terminal or a scheduler sends to the whole process group:
    only the parent handles them, and it ends its workers after saving its state. Exits when the
    parent is gone, even if it was killed. Without this a pool's worker would wait for work
    forever, and a worker of torch's DataLoader for a reader of its last batch.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Wait until the parent process has ended, then end this one; the target of a thread."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _start_worker(images: ImageSet, preprocessing: Preprocessing) -> None:
    init_worker_process()
    global _worker_state
    _worker_state = (images, preprocessing)


def _work(chunk: range) -> DecodedChunk:
    assert _worker_state is not None
    return _decode_chunk(*_worker_state, chunk)
