"""Splits, augmentation and the order of batches: all from seeds, none from luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from squeezenet.arch.preprocessing import (
    Preprocessing,
    caffe_preprocessing,
    torchvision_preprocessing,
)
from squeezenet.data import augment
from squeezenet.data.augment import (
    Augmentation,
    augment_batch,
    min_decoded_side,
    random_crop,
)
from squeezenet.data.digits import load_digits
from squeezenet.data.loader import TrainBatch, iter_train_batches
from squeezenet.data.sources import open_training_data
from squeezenet.data.split import class_weights, stratified_split
from squeezenet.errors import DataError, ImageError, SpecError, UsageError
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from squeezenet.images.folders import read_class_folders
from squeezenet.images.preprocess import crop_pixels
from squeezenet.images.resize import resize_rectangle
from squeezenet.images.sets import ArrayImages, FolderImages, ImageSet
from squeezenet.train.recipe import recipe_named

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


@pytest.mark.parametrize("crop", ["random", "random_resized"])
@pytest.mark.parametrize("size", [(8, 8), (6, 15)])
def test_no_crop_of_an_image_of_the_decoded_size_is_enlarged(
    crop: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = torchvision_preprocessing(resize=max(size), crop=size)
    augmentation = Augmentation(crop=crop, min_area=0.2, max_aspect=1.5, zoom=1.3, padding=2)
    side = min_decoded_side(augmentation, preprocessing)
    taken: list[float] = []

    def seen(
        pixels: np.ndarray, rectangle: tuple[int, int, int, int], height: int, width: int,
        window: tuple[int, int, int, int] | None = None,
    ) -> np.ndarray:  # fmt: skip
        taken.append(min(rectangle[2] / height, rectangle[3] / width))
        return resize_rectangle(pixels, rectangle, height, width, window)

    monkeypatch.setattr(augment, "resize_rectangle", seen)

    def smallest(short: int) -> float:
        taken.clear()
        for shape in ((short, short), (short, 2 * short), (3 * short, short)):
            pixels = np.zeros((*shape, 3), np.uint8)
            for seed in range(300):
                random_crop(pixels, augmentation, preprocessing, np.random.default_rng(seed))
        return min(taken)

    assert smallest(side) >= 1
    assert smallest(side // 2) < 1  # so that the bound is not far from the smallest possible
    assert min_decoded_side(Augmentation(), torchvision_preprocessing()) == 438
    paper = recipe_named("paper").augmentation
    assert min_decoded_side(paper, caffe_preprocessing()) == 256


def test_training_decodes_large_jpegs_smaller(tmp_path: Path) -> None:
    """Crops of a large JPEG have its colours; those of a small one are of the full decoding."""
    rng = np.random.default_rng(0)
    for name, side in (("large", 160), ("small", 20)):
        pixels = rng.integers(0, 256, (side, side + 9, 3), dtype=np.uint8)
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "x.jpg")
    images = read_class_folders(tmp_path)
    asked: list[int | None] = []

    class Watched(FolderImages):
        def pixels(self, index: int, min_side: int | None = None) -> np.ndarray:
            asked.append(min_side)
            return super().pixels(index, min_side)

    watched = Watched(paths=images.paths, labels=images.labels, class_names=images.class_names)
    [batch] = iter_train_batches(
        watched, RECORD, PLAIN, batch_size=2, seed=5, first_step=0, last_step=1, workers=0,
        bad=BadImages(),
    )  # fmt: skip
    side = min_decoded_side(PLAIN, RECORD)
    assert asked == [side] * 2 and images.pixels(0, side).shape == (20, 22, 3)
    for label, crop_HWC in zip(batch.labels.tolist(), batch.pixels_NHWC.numpy(), strict=True):
        whole = images.pixels(label)
        decoded = images.pixels(label, side)
        rng = np.random.default_rng([5, 0, label])
        np.testing.assert_array_equal(crop_HWC, random_crop(decoded, PLAIN, RECORD, rng))
        assert (label == 0) == (decoded.shape != whole.shape)
    evaluated = next(iter(EvalBatches(watched, RECORD, workers=0)))
    assert asked[2:] == [None] * 2
    for i in range(2):
        np.testing.assert_array_equal(
            evaluated.pixels_NHWC[i], crop_pixels(images.pixels(i), RECORD)
        )


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


@pytest.mark.parametrize("channels", [1, 3])
def test_groups_of_images_do_not_change_the_pixels(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are for speed: what comes out is what the whole batch at once gives, bit for bit."""
    luma = Preprocessing(resize=8, crop=(8, 8), channels="L", mean=(127.5,), std=(60.0,))
    preprocessing = RECORD if channels == 3 else luma
    pixels = torch.randint(0, 256, (11, 8, 8, channels), dtype=torch.uint8)
    strong = Augmentation(colour=0.4, cutout=0.3, mix=0.4)
    whole = augment_batch(pixels, strong, preprocessing, seed=1)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    for values in (1, 64 * channels * 5, 64 * channels * 10):
        monkeypatch.setattr(augment, "_GROUP_VALUES", values)
        assert torch.equal(augment_batch(pixels, strong, preprocessing, seed=1), whole)
    assert augment_batch(pixels[:0], strong, preprocessing, seed=1).shape == (0, channels, 8, 8)


def test_colours_are_jittered_as_defined() -> None:
    pixels = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    jitter = Augmentation(colour=0.3)
    found = augment_batch(pixels, jitter, RECORD, seed=1)
    generator = torch.Generator().manual_seed(1)
    draws = [torch.rand(4, generator=generator) * 0.6 + 0.7 for _ in range(3)]
    brightness, contrast, saturation = (each[:, None, None, None] for each in draws)
    x = pixels.float() * brightness
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * contrast
    grey = x.mean(dim=3, keepdim=True)
    x = (grey + (x - grey) * saturation).clamp(0, 255)
    expected = (x - torch.tensor(RECORD.mean)) / torch.tensor(RECORD.std)
    torch.testing.assert_close(found, expected.permute(0, 3, 1, 2))


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
