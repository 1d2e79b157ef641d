"""What the names of folders and files mean: classes, parts of a data set, and what is no picture.

Each case is a folder as people have it: from macOS, Synology, Kaggle, Roboflow, Keras, fastai.
"""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from squeezenet.arch.presets import preset
from squeezenet.data.sources import evaluation_title, open_training_data
from squeezenet.errors import DataError
from squeezenet.images.folders import (
    eval_split,
    find_splits,
    read_class_folders,
    read_eval_folder,
    read_unlabelled,
    split_of,
)
from squeezenet.images.sets import require_readable_classes, with_model_labels
from squeezenet.images.walk import Findings, PassedOver
from tests.conftest import record_of

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def fill(*folders: Path, num: int = 3) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(num):
            Image.new("RGB", (8, 8), (40 * i, 9, 9)).save(folder / f"{i}.png")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    fill(tmp_path / "cat", tmp_path / "dog")
    return tmp_path


ENDINGS = "jpg JPG jpeg jpe jfif png webp bmp tif TIFF gif avif jp2 j2k ppm pgm pbm tga qoi"


@pytest.mark.parametrize("ending", ENDINGS.split())
def test_every_format_that_is_read_as_a_file_is_found_in_a_folder(
    classes: Path, ending: str
) -> None:
    Image.new("L" if ending == "pgm" else "1" if ending == "pbm" else "RGB", (8, 8)).save(
        classes / "cat" / f"x.{ending}"
    )
    images = read_class_folders(classes)
    assert len(images) == 7
    assert images.pixels(3).shape == (8, 8, 3)
    assert images.findings.summary() is None


@pytest.mark.parametrize("name", ["noending", "digit.0", "x.img"])
def test_a_file_with_an_unknown_ending_is_a_picture_if_its_first_bytes_say_so(
    classes: Path, name: str
) -> None:
    (classes / "cat" / "0.png").rename(classes / "cat" / name)
    assert len(read_class_folders(classes)) == 6


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"BM and P6 begin this text", ".txt"),
        ("x.xml", b"<annotation/>", ".xml"),
        ("README", b"about", "without an ending"),
        ("x.heic", HEIC, "convert to JPEG, or install pillow-heif"),
        ("IMG_1.HEIC", HEIC, "convert to JPEG, or install pillow-heif"),
        ("renamed", HEIC, "convert to JPEG, or install pillow-heif"),
        ("x.nef", b"II*\0" + bytes(60), "a camera's raw file, convert to JPEG"),
        ("._0.png", b"\0\5\26\7", "hidden picture"),
    ],
)
def test_what_is_no_picture_is_counted_with_its_reason(
    classes: Path, name: str, content: bytes, reason: str
) -> None:
    (classes / "cat" / name).write_bytes(content)
    images = read_class_folders(classes)
    assert len(images) == 6
    assert images.findings.passed_over[0].path == classes / "cat" / name
    summary = images.findings.summary()
    assert summary is not None
    assert summary.startswith("not used: 1 ") and reason in summary


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", ".gitkeep"])
def test_files_that_systems_make_are_not_worth_a_word(classes: Path, name: str) -> None:
    (classes / "cat" / name).write_bytes(b"x")
    (classes / name).write_bytes(b"x")
    assert read_class_folders(classes).findings.summary() is None


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"])
def test_hidden_and_system_folders_are_passed_over_whole(classes: Path, name: str) -> None:
    fill(
        classes / name, classes / name / "cat", classes / "cat" / name, classes / "cat/deep" / name
    )
    images = read_class_folders(classes)
    assert images.class_names == ("cat", "dog")
    assert len(images) == 6
    assert len(images.findings.passed_over) == 3
    assert len(read_unlabelled(classes)) == 6


@pytest.mark.parametrize("name", ["lost+found", "$RECYCLE.BIN", "System Volume Information"])
def test_empty_system_folders_are_no_empty_classes(classes: Path, name: str) -> None:
    (classes / name).mkdir()
    assert read_class_folders(classes).class_names == ("cat", "dog")


def test_links_are_followed_once(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    fill(elsewhere / "more")
    (classes / "cat" / "linked").symlink_to(elsewhere / "more")
    (classes / "cat" / "file.png").symlink_to(elsewhere / "more" / "0.png")
    (classes / "bird").symlink_to(elsewhere)
    (classes / "cat" / "loop").symlink_to(classes / "cat")
    (classes / "dog" / "gone.png").symlink_to(classes / "none")
    images = read_class_folders(classes)
    assert images.class_names == ("bird", "cat", "dog")
    assert [int((images.labels == k).sum()) for k in range(3)] == [3, 7, 3]
    assert images.findings.counts == {"link to a folder that is used already": 1, "broken link": 1}


def test_what_is_neither_file_nor_folder_is_passed_over(classes: Path) -> None:
    os.mkfifo(classes / "cat" / "pipe.png")
    found = read_class_folders(classes).findings
    assert found.counts == {"file that is not a regular file": 1}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("training_set", "train"),
        ("trainset", "train"), ("train-images", "train"), ("val", "val"), ("valid", "val"),
        ("Validation", "val"), ("validation set", "val"), ("dev", "val"), ("test", "test"),
        ("Testing", "test"), ("test_data", "test"), ("dataset", None), ("trains", None),
        ("train_station", None), ("cat", None), ("set", None), ("", None), ("données", None),
    ],
)  # fmt: skip
def test_names_of_parts(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"), ("Train", "Valid", "Test"), ("training", "validation", "testing"),
        ("TRAIN", "VAL", "TEST"), ("train_set", "dev", "test_set"),
    ],
)  # fmt: skip
def test_parts_are_found_by_their_usual_names(
    tmp_path: Path, train: str, val: str, test: str
) -> None:
    for number, part in enumerate((train, val, test)):
        fill(tmp_path / part / "cat", tmp_path / part / "dog", num=number + 2)
    data = open_training_data(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.val), len(read_eval_folder(tmp_path))) == (4, 6, 8)
    assert len(data.findings.notes) == sum(
        name not in ("train", "val", "test") for name in (train, val, test)
    )
    assert evaluation_title(str(tmp_path)) == f"{tmp_path.name}, its part test/"


def test_a_class_may_be_called_train(classes: Path) -> None:
    fill(classes / "train", classes / "test")
    assert find_splits(classes) == {}
    assert eval_split(classes) is None
    names = ("cat", "dog", "test", "train")
    assert open_training_data(str(classes)).class_names == names
    assert read_eval_folder(classes).class_names == names


def test_what_is_beside_the_parts_is_named(tmp_path: Path) -> None:
    fill(*(tmp_path / part / c for part in ("train", "val") for c in ("cat", "dog")))
    fill(tmp_path / "unlabelled")
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    counts = open_training_data(str(tmp_path)).findings.counts
    expected = {"folder beside train/, val/": 1, "picture outside of the class folders": 1}
    assert counts == expected


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "test"], "look like parts of a data set, but have no class folders"),
        (["train/a", "train/b", "val/a", "valid/a"], "both val/ and valid/ are a val part"),
        (["train/a", "train/b", "Train/a"], "both Train/ and train/ are a train part"),
        (["train/a", "train/b", "car", "bus"], "put its pictures into train/ itself"),
        (["val/a", "val/b", "test/a", "test/b"], "has val/, test/ and no train/"),
        (["train/Cat", "train/dog", "val/cat"], "did you mean 'Cat'"),
        (["photos/a"], "only one class"),
    ],
)
def test_folders_that_can_be_meant_in_two_ways_are_refused(
    tmp_path: Path, folders: list[str], message: str
) -> None:
    fill(*(tmp_path / folder for folder in folders))
    with pytest.raises(DataError, match=message):
        open_training_data(str(tmp_path))


def test_classes_with_the_same_folders_inside_are_worth_a_note(tmp_path: Path) -> None:
    fill(*(tmp_path / part / c for part in ("fold1", "fold2") for c in ("cat", "dog")))
    images = read_class_folders(tmp_path)
    assert images.class_names == ("fold1", "fold2")
    assert "all have the same folders inside (cat, dog)" in images.findings.notes[0]


def test_a_class_without_pictures_stops_training_alone(tmp_path: Path) -> None:
    fill(*(tmp_path / part / c for part in ("train", "val") for c in ("cat", "dog")))
    fill(tmp_path / "train" / "rare")
    for part in ("val", "test"):
        (tmp_path / part / "rare").mkdir(parents=True)
    fill(tmp_path / "test" / "cat")
    data = open_training_data(str(tmp_path))
    assert data.class_names == ("cat", "dog", "rare")
    assert data.findings.notes == (f"{tmp_path / 'val'}: no images in 1 of 3 classes (rare/)",)
    assert read_eval_folder(tmp_path).class_names == ("cat",)
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "train" / "empty" / "x.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"class 'empty' has no images .*1 \.heic \(convert"):
        open_training_data(str(tmp_path))


def test_class_names_are_in_composed_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    fill(tmp_path / "train" / composed, tmp_path / "train" / "tea", tmp_path / "val" / decomposed)
    data = open_training_data(str(tmp_path))
    assert data.class_names == (composed, "tea")
    assert data.val.labels.tolist() == [0, 0, 0]
    fill(tmp_path / "train" / decomposed)
    both = open_training_data(str(tmp_path))
    assert both.train.labels.tolist() == [0] * 6 + [1] * 3
    assert "taken together" in both.findings.notes[0]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_folders_match_the_classes_of_a_model_in_either_form(tmp_path: Path, form: str) -> None:
    fill(tmp_path / unicodedata.normalize("NFC" if form == "NFD" else "NFD", "café"))
    names = ("tea", unicodedata.normalize(form, "café"))
    record = dataclasses.replace(
        record_of(preset("squeezenet_tiny", num_classes=2)), class_names=names
    )
    assert with_model_labels(read_class_folders(tmp_path), record).labels.tolist() == [1, 1, 1]


def test_a_class_whose_pictures_are_all_broken_is_named(classes: Path) -> None:
    require_readable_classes(read_class_folders(classes))
    for path in (classes / "dog").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match=r"class 'dog': none of its 3 images can be read"):
        require_readable_classes(read_class_folders(classes))


def test_a_summary_names_the_most_frequent_reasons() -> None:
    over = [
        PassedOver(path=Path(f"{i}.{k}"), reason=f".{k}") for k in range(8) for i in range(9 - k)
    ]
    findings = Findings(passed_over=tuple(over))
    assert findings.summary() == (
        "not used: 9 .0, 8 .1, 7 .2, 6 .3, 5 .4, 9 for other reasons; --list-unused names them"
    )
    assert (findings + findings).counts == findings.counts
    two = Findings(
        passed_over=(over[0], *(PassedOver(path=p.path, reason="hidden folder") for p in over[:2]))
    )
    assert two.summary(hint=False) == "not used: 2 hidden folders, 1 .0"
