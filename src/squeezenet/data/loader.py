"""Batches of randomly cropped training images, in an order that a resumed run repeats.

The images of batch ``step`` and their crops depend on (seed, step) alone, not on worker processes,
ranks or interruptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.data.augment import Augmentation, min_decoded_side, random_crop
from squeezenet.data.epochs import Epochs
from squeezenet.errors import DataError, ImageError
from squeezenet.images.bad import BadImages, with_notes
from squeezenet.images.batches import init_worker_process
from squeezenet.images.decode import Pixels
from squeezenet.images.sets import ImageSet


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainBatch:
    """``pixels_NHWC`` uint8 and ``labels`` int64 of the images that could be read; N may be 0.

    ``positions`` (int64) are their places in the batch of all ranks, which has ``num_positions``.
    """

    step: int
    pixels_NHWC: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    num_positions: int


def iter_train_batches(
    images: ImageSet,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    workers: int,
    bad: BadImages,
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[TrainBatch]:
    """Yield batches ``first_step`` .. ``last_step`` - 1, of each the part of one rank.

    ``batch_size`` counts the images of all ranks.

    Raises:
        DataError: none of the images can be read.
        ImageError: one cannot be read, and ``bad`` is strict.
    """
    epochs = Epochs(num_images=len(images), batch_size=batch_size)
    first_position = epochs.images_per_step * rank // num_ranks
    sampler = _StepSampler(images, epochs, seed, range(first_step, last_step), rank, num_ranks)
    loader: Iterable[_Part] = DataLoader(
        _Crops(images, preprocessing, augmentation, seed),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=partial(_collate, (*preprocessing.crop, preprocessing.num_channels)),
        worker_init_fn=_start_worker,
        # "spawn": a child forked from a process with BLAS or torch threads may hang.
        multiprocessing_context="spawn" if workers else None,
    )
    num_bad_in_a_row = 0
    for step, part in zip(range(first_step, last_step), loader, strict=True):
        for note in part.notes:
            bad.note(note)
        for error in part.errors:
            num_bad_in_a_row = num_bad_in_a_row + 1 if error is not None else 0
            if error is not None:
                bad.add(error)
        if num_bad_in_a_row >= len(images):
            raise DataError(f"none of the {len(images)} training images could be read")
        places = [place for place, error in enumerate(part.errors) if error is None]
        yield TrainBatch(
            step=step,
            pixels_NHWC=torch.from_numpy(part.pixels_NHWC),
            labels=torch.tensor([part.labels[place] for place in places], dtype=torch.int64),
            positions=torch.tensor(places, dtype=torch.int64) + first_position,
            num_positions=epochs.images_per_step,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item:
    """A cropped image with notes on it, or the error message of one that cannot be read."""

    label: int
    pixels_HWC: Pixels | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A rank's part of a batch: ``labels`` and ``errors`` of all images, pixels of the good ones.

    It is made by the worker: one array is sent faster than one for each image.
    """

    pixels_NHWC: Pixels
    labels: tuple[int, ...]
    errors: tuple[str | None, ...]
    notes: tuple[str, ...]


def _collate(shape_HWC: tuple[int, ...], items: list[_Item]) -> _Part:
    good = [item.pixels_HWC for item in items if item.pixels_HWC is not None]
    return _Part(
        pixels_NHWC=np.stack(good) if good else np.zeros((0, *shape_HWC), np.uint8),
        labels=tuple(item.label for item in items),
        errors=tuple(item.error for item in items),
        notes=tuple(note for item in items for note in item.notes),
    )


class _Crops(Dataset[_Item]):
    """Randomly cropped images; the index is (epoch, index in the set).

    Large JPEGs are decoded at a fraction of their size that still has all detail of every crop.
    """

    def __init__(
        self, images: ImageSet, preprocessing: Preprocessing, augmentation: Augmentation, seed: int
    ) -> None:
        self._images = images
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._min_side = min_decoded_side(augmentation, preprocessing)
        self._seed = seed
        self._flipped_first = np.random.default_rng([seed]).integers(0, 2, len(images))

    def __getitem__(self, index: tuple[int, int]) -> _Item:
        epoch, i = index
        label = int(self._images.labels[i])
        try:
            pixels, notes = with_notes(partial(self._images.pixels, i, self._min_side))
        except ImageError as error:
            return _Item(label=label, error=str(error))
        rng = np.random.default_rng([self._seed, epoch, i])
        crop_HWC = random_crop(pixels, self._augmentation, self._preprocessing, rng)
        if self._augmentation.flip and (epoch + self._flipped_first[i]) % 2:
            crop_HWC = crop_HWC[:, ::-1]
        return _Item(label=label, pixels_HWC=crop_HWC, notes=tuple(notes))


class _StepSampler(Sampler[list[tuple[int, int]]]):
    """(epoch, index in the set) of a rank's images in each step."""

    def __init__(
        self,
        images: ImageSet,
        epochs: Epochs,
        seed: int,
        steps: range,
        rank: int,
        num_ranks: int,
    ) -> None:
        self._images = images
        self._epochs = epochs
        self._seed = seed
        self._steps = steps
        self._rank = rank
        self._num_ranks = num_ranks

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        known_epoch, order = -1, np.zeros(0, np.int64)
        for step in self._steps:
            batch = []
            for epoch, place in self._epochs.places(step, self._rank, self._num_ranks):
                if epoch != known_epoch:
                    rng = np.random.default_rng([self._seed, epoch])
                    order, known_epoch = self._images.epoch_order(rng), epoch
                batch.append((epoch, int(order[place])))
            yield batch


def _start_worker(worker_id: int) -> None:
    init_worker_process()
    torch.set_num_threads(1)
