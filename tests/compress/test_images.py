"""The images of a compression."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezenet.compress.images import open_compression_images, random_subset
from squeezenet.data.digits import load_digits
from squeezenet.data.sources import recorded_val_fraction
from squeezenet.errors import DataError, UsageError
from squeezenet.images.joined import JoinedImages, joined
from squeezenet.images.sets import ImageSet
from tests.compress.conftest import untrained_model

RECORD = untrained_model().record


def names(images: ImageSet) -> set[str]:
    return {images.name(i) for i in range(len(images))}


def open_images(**options: object):  # type: ignore[no-untyped-def]
    which = {"data": None, "calib": (), "val": None, "seed": 0} | options
    return open_compression_images(RECORD, **which)  # type: ignore[arg-type]


def test_either_data_or_calib() -> None:
    for which in ({}, {"data": "digits", "calib": ("digits",)}):
        with pytest.raises(UsageError, match="give either --data DATA"):
            open_images(**which)


def test_labelled_digits() -> None:
    found, digits = open_images(data="digits"), load_digits()
    assert found.labelled and found.measure_labelled
    np.testing.assert_array_equal(found.retrain.labels, digits["train"].labels)
    np.testing.assert_array_equal(found.measure.labels, digits["val"].labels)
    tested = open_images(data="digits", val="digits")
    np.testing.assert_array_equal(tested.measure.labels, digits["test"].labels)
    assert found.fingerprint().summary != tested.fingerprint().summary


def test_unlabelled_digits() -> None:
    found = open_images(calib=("digits",))
    assert not found.labelled and not found.measure_labelled
    assert not found.retrain.labels.any() and not found.measure.labels.any()
    assert (len(found.retrain), len(found.measure)) == (934, 233)  # a fifth of 1,167
    pixels = [
        {images.pixels(i).tobytes() for i in range(len(images))}
        for images in (found.retrain, found.measure)
    ]
    assert not pixels[0] & pixels[1]
    again, other = open_images(calib=("digits",)), open_images(calib=("digits",), seed=1)
    same = [again.measure.pixels(i).tobytes() in pixels[1] for i in range(233)]
    assert all(same)
    assert {other.measure.pixels(i).tobytes() for i in range(233)} != pixels[1]
    judged = open_images(calib=("digits",), val="digits")
    assert judged.measure_labelled and not judged.labelled


def test_folders(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = image_folder(a=10, b=10)
    with pytest.raises(DataError, match="class 'a' is not one of the model's"):
        open_images(data=str(root))
    found = open_images(calib=(str(root),))
    assert not names(found.retrain) & names(found.measure)
    assert len(names(found.retrain) | names(found.measure)) == 20
    one = image_folder(tmp_path / "one", a=1)
    with pytest.raises(UsageError, match="only 1 image, expected some hundreds"):
        open_images(calib=(str(one),))
    digits = image_folder(tmp_path / "digits", **{"7": 5, "3": 4})
    judged = open_images(calib=(str(root),), val=str(digits))
    assert sorted(judged.measure.labels.tolist()) == [3] * 4 + [7] * 5


def test_several_folders(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A fifth of each is held out."""
    first = image_folder(tmp_path / "first", a=10)
    second = image_folder(tmp_path / "second", size=(9, 9), b=20)  # other pictures
    found = open_images(calib=(str(first), str(second)))
    assert (len(found.retrain), len(found.measure)) == (24, 6)
    assert len(names(found.retrain) | names(found.measure)) == 30
    for images, count in ((found.retrain, 8), (found.measure, 2)):
        assert sum("first" in name for name in names(images)) == count
    other = open_images(calib=(str(second), str(first)))
    assert found.fingerprint().summary != other.fingerprint().summary
    assert (
        found.fingerprint().summary
        == open_images(calib=(str(first), str(second))).fingerprint().summary
    )
    few = [image_folder(tmp_path / name, a=1) for name in ("one", "two")]
    with pytest.raises(UsageError, match="one .*two: only 2 images, expected some hundreds"):
        open_images(calib=tuple(map(str, few)))


def test_measured_images_are_not_learned_from(
    image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """They are known by their contents, whatever they are called."""
    val = image_folder(tmp_path / "val", size=(9, 9), **{"7": 4})
    calib = image_folder(tmp_path / "calib", a=10)
    for i, path in enumerate(sorted(val.rglob("*.png"))):
        (calib / "a" / f"copy{i}.png").write_bytes(path.read_bytes())
    (calib / "a" / "broken.png").write_bytes(b"")
    told: list[str] = []
    found = open_images(calib=(str(calib),), val=str(val), log=told.append)
    assert not [name for name in names(found.retrain) if "copy" in name]
    (line,) = told
    assert "images are in --val" in line and "copy" in line
    with pytest.raises(DataError, match="all images are in --val"):
        open_images(calib=(str(val),), val=str(val))


def test_copies_of_held_out_images_are_not_learned_from(image_folder: Callable[..., Path]) -> None:
    root, told = image_folder(a=10), list[str]()
    found = open_images(calib=(str(root), str(root)), log=told.append)
    assert len(found.measure) == 4 and told and "the part that is held out" in told[0]
    assert not names(found.retrain) & names(found.measure)
    assert len(names(found.retrain) | names(found.measure)) == 10


def test_random_subsets_are_drawn_from_all_images() -> None:
    digits = load_digits()["train"]
    images = digits.subset(list(range(100)), np.arange(100))
    assert random_subset(images, 100, 0) is images
    found = random_subset(images, 20, 0).labels.tolist()
    assert found == sorted(found) and len(set(found)) == 20
    assert found[0] < 20 and found[-1] >= 80
    assert random_subset(images, 20, 0).labels.tolist() == found
    assert random_subset(images, 20, 1).labels.tolist() != found


def test_random_subsets_of_joined_sets() -> None:
    """4 : 1 of the pictures are 2 : 1 of those drawn, as long as there are so many."""
    digits = load_digits()["train"]
    large, small = (digits.subset(list(part)) for part in (range(400), range(400, 500)))
    images = joined([large, small])
    for count, num_small in ((30, 10), (300, 100), (450, 100)):
        found = random_subset(images, count, 0)
        assert isinstance(found, JoinedImages) and len(found) == count
        assert int((found.part_N == 1).sum()) == num_small
    assert random_subset(images, 500, 0) is images


def test_the_share_that_training_held_out() -> None:
    def fraction(value: object) -> float:
        return recorded_val_fraction(
            dataclasses.replace(RECORD, provenance={"val_fraction": value})
        )

    assert fraction(0.25) == 0.25
    for value in (0.0, 1.0, -0.5, "0.3", None, 1):
        assert fraction(value) == 0.1
    assert recorded_val_fraction(RECORD) == 0.1


def test_training_and_measuring_share_one_split(image_folder: Callable[..., Path]) -> None:
    """A model that held out half of its images is measured on that half."""
    root = image_folder(**{str(digit): 4 for digit in range(10)})
    record = dataclasses.replace(RECORD, provenance={"val_fraction": 0.5})
    found = open_compression_images(record, data=str(root), calib=(), val=None, seed=0)
    assert (len(found.retrain), len(found.measure)) == (20, 20)
    assert len(open_images(data=str(root)).measure) == 10
