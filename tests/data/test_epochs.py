"""Every image once per epoch, whatever the batch size and however many processes share a batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.data.augment import Augmentation, augment_batch
from squeezenet.data.epochs import Epochs
from squeezenet.data.loader import TrainBatch, iter_train_batches
from squeezenet.images.bad import BadImages
from squeezenet.images.sets import ArrayImages

RECORD = default_preprocessing(preset("squeezenet_tiny"))
PLAIN = Augmentation(crop="random", colour=0.0, flip=False)

sizes = st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5))


@settings(deadline=None)
@given(sizes)
def test_epochs_follow_one_another_without_gaps(size: tuple[int, int, int]) -> None:
    num_images, batch_size, num_ranks = size
    epochs = Epochs(num_images=num_images, batch_size=batch_size)
    num_steps = epochs.num_steps(3)
    parts = [
        [epochs.places(step, rank, num_ranks) for rank in range(num_ranks)]
        for step in range(num_steps)
    ]
    places = list(itertools.chain.from_iterable(itertools.chain.from_iterable(parts)))
    assert places == [divmod(i, num_images) for i in range(len(places))]
    assert 3 * num_images <= len(places) < 3 * num_images + epochs.images_per_step
    for step in parts:
        lengths = [len(part) for part in step]
        assert sum(lengths) == min(batch_size, num_images)
        assert max(lengths) - min(lengths) <= 1


@settings(deadline=None)
@given(sizes)
def test_an_epoch_ends_with_its_last_image(size: tuple[int, int, int]) -> None:
    num_images, batch_size, _ = size
    epochs = Epochs(num_images=num_images, batch_size=batch_size)
    last = epochs.num_steps(4)
    ends = [step for step in range(1, last + 1) if epochs.ends_with(step)]
    assert [epochs.number(step) for step in ends] == [1, 2, 3, 4]
    assert ends == [epochs.num_steps(n) for n in (1, 2, 3, 4)]
    for step in range(1, last + 1):
        assert epochs.number(step) in (int(epochs.num_done(step)), int(epochs.num_done(step)) + 1)


def numbered(num_images: int) -> ArrayImages:
    """Images whose label is their number, and whose pixels are it too."""
    labels = np.arange(num_images)
    pixels = np.broadcast_to(labels[:, None, None, None], (num_images, 8, 8, 3)).astype(np.uint8)
    names = tuple(str(label) for label in labels)
    return ArrayImages(pixels_NHWC=pixels, labels=labels, class_names=names, title="numbers")


def labels_of(
    images: ArrayImages, rank: int, num_ranks: int, first: int, last: int, workers: int = 0
) -> list[list[int]]:
    batches = iter_train_batches(
        images, RECORD, PLAIN, batch_size=10, seed=3, first_step=first, last_step=last,
        workers=workers, bad=BadImages(), rank=rank, num_ranks=num_ranks,
    )  # fmt: skip
    return [batch.labels.tolist() for batch in batches]


def joined(parts: list[list[list[int]]]) -> list[list[int]]:
    """Return the labels of each step, of all ranks."""
    return [list(itertools.chain.from_iterable(step)) for step in zip(*parts, strict=True)]


@pytest.mark.parametrize("num_images", [33, 40, 7])
def test_ranks_share_the_batches_of_one_process(num_images: int) -> None:
    """In any number, also when that changes in the middle of an epoch, and with workers."""
    images = numbered(num_images)
    steps = Epochs(num_images=num_images, batch_size=10).num_steps(3)
    alone = labels_of(images, 0, 1, 0, steps)
    for num_ranks in (2, 3, 4):
        parts = [labels_of(images, rank, num_ranks, 0, steps) for rank in range(num_ranks)]
        assert joined(parts) == alone
    middle = steps // 2
    parts = [labels_of(images, rank, 4, middle, steps) for rank in range(4)]
    assert joined(parts) == alone[middle:]
    seen = list(itertools.chain.from_iterable(alone))
    for epoch in range(3):
        part = seen[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(part) == list(range(num_images))
        assert part != seen[:num_images] or epoch == 0


def test_worker_processes_do_not_change_the_order() -> None:
    images = numbered(33)
    assert labels_of(images, 1, 2, 4, 9, workers=2) == labels_of(images, 1, 2, 4, 9)


def test_an_image_is_augmented_alike_in_every_part() -> None:
    """Colours and cutout are drawn for the whole batch, of which a rank has a part."""
    images = numbered(20)
    augmentation = Augmentation(crop="random", colour=0.3, cutout=0.4, flip=False)

    def batch_of(rank: int, num_ranks: int) -> TrainBatch:
        (batch,) = iter_train_batches(
            images, RECORD, augmentation, batch_size=16, seed=3, first_step=0, last_step=1,
            workers=0, bad=BadImages(), rank=rank, num_ranks=num_ranks,
        )  # fmt: skip
        return batch

    def augmented(batch: TrainBatch) -> torch.Tensor:
        return augment_batch(
            batch.pixels_NHWC, augmentation, RECORD, 5, positions=batch.positions,
            num_positions=batch.num_positions,
        )  # fmt: skip

    whole = augmented(batch_of(0, 1))
    assert torch.equal(whole, augment_batch(batch_of(0, 1).pixels_NHWC, augmentation, RECORD, 5))
    parts = [augmented(batch_of(rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole)
