"""What a DATA argument names, where it is a folder of shards; see also shards/test_remote.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezenet.api.shard import shard
from squeezenet.arch.presets import preset
from squeezenet.data.locations import data_name, locate
from squeezenet.data.sources import (
    evaluation_title,
    open_evaluation_data,
    open_training_data,
    open_unlabelled_data,
)
from squeezenet.errors import DataError, UsageError
from squeezenet.images.sets import ImageSet
from tests.conftest import record_of

MakeFolder = Callable[..., Path]


@pytest.fixture
def split(image_folder: MakeFolder, tmp_path: Path) -> tuple[Path, Path]:
    """A data set in three parts, as a folder and as shards."""
    root = tmp_path / "set"
    image_folder(root / "train", a=6, b=5, c=4)
    image_folder(root / "valid", b=2, c=3)
    image_folder(root / "test", a=1)
    shard(root, tmp_path / "shards", shard_size="8K", workers=0)
    return root, tmp_path / "shards"


def pixels(images: ImageSet) -> list[tuple[int, bytes]]:
    found = ((int(images.labels[i]), images.pixels(i).tobytes()) for i in range(len(images)))
    return sorted(found)


def test_shards_in_parts_are_what_the_folder_is(split: tuple[Path, Path]) -> None:
    folder, shards = (open_training_data(str(path)) for path in split)
    assert shards.class_names == folder.class_names == ("a", "b", "c")
    assert pixels(shards.train) == pixels(folder.train)
    assert pixels(shards.val) == pixels(folder.val)
    record = dataclasses.replace(
        record_of(preset("squeezenet_tiny", num_classes=3)), class_names=("c", "a", "b")
    )
    for part in (None, "train", "val", "test"):
        one, other = (open_evaluation_data(str(path), record, part) for path in split)
        assert pixels(one) == pixels(other)
    assert evaluation_title(str(split[1])) == "shards, its part test/"
    assert len(open_unlabelled_data(str(split[1]))) == 15
    assert locate(str(split[1])).parts == ("train", "val", "test")


def test_shards_without_parts(image_folder: MakeFolder, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set", a=20, b=10)
    shard(root, tmp_path / "shards", shard_size="8K", workers=0)
    data = open_training_data(str(tmp_path / "shards"), val_fraction=0.2)
    assert (len(data.train), len(data.val)) == (24, 6)
    everything = {
        image.name(i) for image in (data.train, data.val) for i in range(len(image))
    }  # fmt: skip
    assert len(everything) == 30
    again = open_training_data(str(tmp_path / "shards"), val_fraction=0.2)
    np.testing.assert_array_equal(data.val.labels, again.val.labels)
    assert evaluation_title(str(tmp_path / "shards"), "val") == "shards, held out from training"
    assert data_name(str(tmp_path / "shards")) == "shards"


def test_the_fingerprint_is_the_indexs(image_folder: MakeFolder, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set", a=20, b=10)
    shard(root, tmp_path / "one", shard_size="8K", workers=0)
    first = open_training_data(str(tmp_path / "one")).fingerprint()
    (tmp_path / "one").rename(tmp_path / "moved")
    assert open_training_data(str(tmp_path / "moved")).fingerprint().summary == first.summary
    (root / "a" / "003.png").write_bytes((root / "a" / "004.png").read_bytes())
    shard(root, tmp_path / "two", shard_size="8K", workers=0)
    changed = open_training_data(str(tmp_path / "two")).fingerprint(first)
    assert changed.summary["names"] == first.summary["names"]
    assert changed.summary["contents"] != first.summary["contents"]
    line = changed.change(first)
    assert "1 of 30 images have changed since the run began, first " in line
    assert "/a/003-" in line


def test_folders_that_are_no_data(image_folder: MakeFolder, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set", a=3, b=3)
    shard(root, tmp_path / "shards", workers=0)
    (tmp_path / "shards" / "index.json").unlink()
    with pytest.raises(UsageError, match="has tars and no index; squeezenet shard --index"):
        locate(str(tmp_path / "shards"))
    (tmp_path / "shards" / "unfinished-shards.json").write_text("{}")
    with pytest.raises(DataError, match="its shards are not finished"):
        locate(str(tmp_path / "shards"))
    shard(root, tmp_path / "parts" / "train", workers=0)
    shard(root, tmp_path / "parts" / "training", workers=0)
    with pytest.raises(DataError, match="both train/ and training/ are a train part"):
        locate(str(tmp_path / "parts"))
    only = image_folder(tmp_path / "only", a=3)
    shard(only, tmp_path / "only-shards", workers=0)
    with pytest.raises(DataError, match="only one class, 'a'"):
        open_training_data(str(tmp_path / "only-shards"))


def test_an_index_json_of_something_else(image_folder: MakeFolder, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set", a=3, b=3)
    (root / "index.json").write_text('{"about": "my pictures"}')
    assert len(open_unlabelled_data(str(root))) == 6


def test_classes_without_images_are_said(split: tuple[Path, Path]) -> None:
    findings = open_training_data(str(split[1])).findings
    assert findings.notes == (f"{split[1]}/val: no images in 1 of 3 classes (a)",)


def test_what_is_beside_the_parts_is_said(split: tuple[Path, Path]) -> None:
    (split[1] / "notes").mkdir()
    findings = open_training_data(str(split[1])).findings
    assert findings.counts == {"folder beside train/, val/, test/": 1}
