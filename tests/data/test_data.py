"""Splits, augmentation and the order of batches: all from seeds, none from luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.data.augment import Augmentation, augment_batch, random_crop
from squeezenet.data.digits import load_digits
from squeezenet.data.loader import TrainBatch, iter_train_batches
from squeezenet.data.sources import open_training_data
from squeezenet.data.split import class_weights, stratified_split
from squeezenet.errors import DataError, ImageError, SpecError, UsageError
from squeezenet.images.bad import BadImages
from squeezenet.images.folders import read_class_folders
from squeezenet.images.sets import ArrayImages, ImageSet

MakeFolder = Callable[..., Path]
RECORD = torchvision_preprocessing(resize=8, crop=(8, 8))
PLAIN = Augmentation(flip=False, colour=0.0)


def test_stratified_split() -> None:
    labels = np.repeat([0, 1, 2, 3], [100, 10, 2, 1])
    first, second = stratified_split(labels, 0.2, 0)
    assert sorted([*first, *second]) == list(range(113))
    assert np.bincount(labels[second], minlength=4).tolist() == [20, 2, 1, 0]
    again, _ = stratified_split(labels, 0.2, 0)
    np.testing.assert_array_equal(first, again)
    other, _ = stratified_split(labels, 0.2, 1)
    assert not np.array_equal(first, other)


def test_class_weights() -> None:
    labels = np.repeat([0, 1], [90, 10])
    weights = class_weights(labels, 3)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1)


def test_digits() -> None:
    digits = load_digits()
    assert [len(digits[name]) for name in ("train", "val", "test")] == [1167, 179, 451]
    assert digits["train"].pixels(0).shape == (8, 8, 3)
    everything = np.concatenate([part.pixels_NHWC[..., 0] for part in digits.values()])
    assert everything.sum() > 0 and len(everything) == 1797
    for part in digits.values():
        assert len(np.unique(part.labels)) == 10


def test_sources(image_folder: MakeFolder, tmp_path: Path) -> None:
    flat = image_folder(a=20, b=10)
    data = open_training_data(str(flat), val_fraction=0.2)
    assert (len(data.train), len(data.val)) == (24, 6)
    same = open_training_data(str(flat), val_fraction=0.2)
    assert data.fingerprint().summary == same.fingerprint().summary
    larger = open_training_data(str(flat), val_fraction=0.5)
    assert data.fingerprint().summary != larger.fingerprint().summary
    held_out = [{part.val.name(i) for i in range(len(part.val))} for part in (data, larger)]
    assert held_out[0] < held_out[1]  # those of a smaller fraction are a subset
    split = tmp_path / "split"
    image_folder(split / "train", a=4, b=4, c=4)
    image_folder(split / "test", a=1)
    assert len(open_training_data(str(split)).val) == 3
    image_folder(split / "val", c=2)
    data = open_training_data(str(split))
    assert data.val.labels.tolist() == [2, 2] and data.class_names == ("a", "b", "c")
    image_folder(split / "val", z=1)
    with pytest.raises(DataError, match="class 'z' is not in"):
        open_training_data(str(split))


def test_sources_that_cannot_be_used(image_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        open_training_data(str(tmp_path / "none"))
    with pytest.raises(DataError, match="only one class, 'a'"):
        open_training_data(str(image_folder(a=5)))
    with pytest.raises(DataError, match="single image"):
        open_training_data(str(image_folder(tmp_path / "x", a=1, b=1)))


@pytest.mark.parametrize("augmentation", [PLAIN, Augmentation(crop="random", padding=2, zoom=1.2)])
@pytest.mark.parametrize("shape", [(30, 20), (8, 8), (3, 50), (1, 1)])
def test_random_crop(augmentation: Augmentation, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    crops = [
        random_crop(pixels, augmentation, RECORD, np.random.default_rng(seed))
        for seed in (1, 1, 2, 3, 4)
    ]
    assert all(crop.shape == (8, 8, 3) and crop.dtype == np.uint8 for crop in crops)
    np.testing.assert_array_equal(crops[0], crops[1])
    assert min(shape) < 4 or any((crop != crops[0]).any() for crop in crops)


def test_augment_batch() -> None:
    pixels = torch.randint(0, 256, (16, 8, 8, 3), dtype=torch.uint8)
    plain = augment_batch(pixels, PLAIN, RECORD, seed=0)
    assert plain.shape == (16, 3, 8, 8)
    expected = (pixels.float() - torch.tensor(RECORD.mean)) / torch.tensor(RECORD.std)
    torch.testing.assert_close(plain, expected.permute(0, 3, 1, 2))
    strong = Augmentation(colour=0.4, cutout=0.5)
    first = augment_batch(pixels, strong, RECORD, seed=1)
    assert torch.equal(first, augment_batch(pixels, strong, RECORD, seed=1))
    assert not torch.equal(first, augment_batch(pixels, strong, RECORD, seed=2))
    assert (first == 0).flatten(1).any(dim=1).all()  # every image has its square
    mixed = augment_batch(pixels, dataclasses.replace(PLAIN, mix=0.5), RECORD, seed=3)
    changed = (mixed != plain).flatten(1).any(dim=1)
    assert 2 <= int(changed.sum()) <= 14
    # Each is a blend of two: what it lacks of its own lies along the way to one of the others.
    for place in torch.nonzero(changed).flatten():
        step = (mixed[place] - plain[place]).flatten()
        ways = (plain - plain[place]).flatten(1)
        along = torch.nn.functional.cosine_similarity(step[None], ways, dim=1)
        assert float(along.max()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    "values", [{"min_area": 0}, {"cutout": 1.0}, {"mix": 1.1}, {"colour": -0.1}, {"zoom": 0.5}]
)
def test_augmentation_is_checked(values: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="augmentation"):
        Augmentation(**values)


def batches(images: ImageSet, first: int, workers: int = 0, **options: object) -> list[TrainBatch]:
    return list(
        iter_train_batches(
            images,
            RECORD,
            PLAIN,
            batch_size=8,
            seed=5,
            first_step=first,
            last_step=9,
            workers=workers,
            bad=BadImages(**options),
        )
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_order_depends_on_the_step_alone(image_folder: MakeFolder, workers: int) -> None:
    images = read_class_folders(image_folder(a=20, b=13))
    whole = batches(images, 0)
    part = batches(images, 6, workers)
    assert [batch.step for batch in part] == [6, 7, 8]
    for a, b in zip(whole[6:], part, strict=True):
        assert torch.equal(a.pixels_NHWC, b.pixels_NHWC) and torch.equal(a.labels, b.labels)
    first, second = whole[:4], whole[4:8]
    assert not torch.equal(first[0].labels, second[0].labels) or not torch.equal(
        first[0].pixels_NHWC, second[0].pixels_NHWC
    )


def test_images_are_mirrored_in_every_other_epoch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    images = ArrayImages(
        pixels_NHWC=pixels, labels=np.arange(8), class_names=tuple("abcdefgh"), title="noise"
    )
    whole = Augmentation(crop="random", colour=0.0)
    seen: dict[int, list[bool]] = {label: [] for label in range(8)}
    for batch in iter_train_batches(
        images, RECORD, whole, batch_size=8, seed=1, first_step=0, last_step=4, workers=0,
        bad=BadImages(),
    ):  # fmt: skip
        for piece, label in zip(batch.pixels_NHWC.numpy(), batch.labels.tolist(), strict=True):
            mirrored = np.array_equal(piece, pixels[label, :, ::-1])
            assert mirrored or np.array_equal(piece, pixels[label])
            seen[label].append(mirrored)
    assert all(turns in ([True, False] * 2, [False, True] * 2) for turns in seen.values())
    assert len({turns[0] for turns in seen.values()}) == 2


def test_bad_training_images(image_folder: MakeFolder) -> None:
    images = read_class_folders(image_folder(a=20, b=12))
    images.paths[0].write_bytes(b"")
    sizes = [len(batch.labels) for batch in batches(images, 0)]
    assert sorted(sizes)[:2] == [7, 7] and max(sizes) == 8
    with pytest.raises(ImageError, match=r"000\.png"):
        batches(images, 0, strict=True)
    for path in images.paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 32 training images"):
        batches(images, 0)


def test_a_set_smaller_than_a_batch(image_folder: MakeFolder) -> None:
    images = read_class_folders(image_folder(a=3, b=2))
    assert [len(batch.labels) for batch in batches(images, 0)] == [5] * 9
