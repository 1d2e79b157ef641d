"""What changes a fingerprint, what does not, and what is read to know."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezenet.data import fingerprint as module
from squeezenet.data.fingerprint import Fingerprint, fingerprint, load_fingerprint
from squeezenet.data.sources import open_training_data
from squeezenet.images.sets import ArrayImages, CachedImages, FolderImages

MakeFolder = Callable[..., Path]


def read(root: Path, known: Fingerprint | None = None) -> Fingerprint:
    return open_training_data(str(root), val_fraction=0.2).fingerprint(known)


@pytest.fixture(params=["small", "large"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A set that is hashed whole, or of which both ends of each file are."""
    if request.param == "large":
        monkeypatch.setattr(module, "MAX_HASHED_BYTES", 0)
        monkeypatch.setattr(module, "_END_BYTES", 64)
    return str(request.param)


def touch(root: Path) -> None:
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))


def copy(root: Path) -> None:
    shutil.copytree(root, root.with_name("copy"))
    shutil.rmtree(root)
    root.with_name("copy").rename(root)


def swap_classes(root: Path) -> None:
    (root / "a").rename(root / "x")
    (root / "b").rename(root / "a")
    (root / "x").rename(root / "b")


def change_first(root: Path) -> None:
    data = bytearray((root / "a" / "003.png").read_bytes())
    data[20] ^= 1
    (root / "a" / "003.png").write_bytes(data)


def change_last(root: Path) -> None:
    data = bytearray((root / "a" / "003.png").read_bytes())
    data[-20] ^= 1
    (root / "a" / "003.png").write_bytes(data)


def longer(root: Path) -> None:
    with (root / "a" / "003.png").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("change", [touch, copy])
def test_copies_and_touched_files_are_the_same(
    image_folder: MakeFolder, size: str, change: Callable[[Path], None]
) -> None:
    root = image_folder(a=6, b=6)
    known = read(root)
    assert known.whole == (size == "small")
    change(root)
    for found in (read(root, known), read(root)):
        assert found.summary == known.summary
        assert not found.same_files(known)  # what is kept is renewed


@pytest.mark.parametrize("change", [swap_classes, change_first, change_last, longer])
def test_other_contents_under_the_same_names(
    image_folder: MakeFolder, size: str, change: Callable[[Path], None]
) -> None:
    root = image_folder(a=6, b=6)
    known = read(root)
    change(root)
    for found in (read(root, known), read(root)):
        assert found.names == known.names and found.summary != known.summary
        text = found.change(known)
        if change is swap_classes:
            assert text.startswith("12 of 12 images have changed since the run began, first ")
        else:
            first = root / "a" / "003.png"
            assert text == f"1 of 12 images have changed since the run began, first {first}"
        assert found.change(None) == "images have changed since the run began"


def test_other_names_and_labels(image_folder: MakeFolder, size: str) -> None:
    root = image_folder(a=6, b=6)
    known = read(root)
    (root / "a" / "003.png").rename(root / "a" / "new.png")
    renamed = read(root, known)
    (root / "a" / "new.png").rename(root / "b" / "new.png")
    moved = read(root, known)
    assert len({known.names, renamed.names, moved.names}) == 3


def test_a_large_set_is_read_once(
    image_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(a=6, b=6)
    monkeypatch.setattr(module, "MAX_HASHED_BYTES", 0)
    known = read(root)
    hashed: list[str] = []
    hash_of_file = module._hash_of_file

    def counted(path: Path, *, whole: bool) -> int:
        hashed.append(path.name)
        return hash_of_file(path, whole=whole)

    monkeypatch.setattr(module, "_hash_of_file", counted)
    assert read(root, known).same_files(known) and not hashed
    os.utime(root / "b" / "002.png", (1, 1))
    assert read(root, known).summary == known.summary and hashed == ["002.png"]


def test_a_set_that_grew_is_hashed_as_before(
    image_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what has not changed keeps its hash, and the first image is named rightly."""
    root = image_folder(a=6, b=6)
    known = read(root)
    longer(root)
    monkeypatch.setattr(module, "MAX_HASHED_BYTES", 1)
    assert read(root, known).change(known).startswith("1 of 12 images have changed")


def test_images_in_memory() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)

    def images(pixels_NHWC: np.ndarray) -> ArrayImages:
        return ArrayImages(
            pixels_NHWC=pixels_NHWC, labels=np.zeros(5, np.int64), class_names=("a",), title="t"
        )

    known = fingerprint([images(pixels)])
    other = pixels.copy()
    other[3, 0, 0, 0] ^= 1
    assert fingerprint([images(pixels.copy())], known).same_files(known)
    assert fingerprint([CachedImages(images(pixels))]).summary == known.summary
    found = fingerprint([images(other)], known)
    assert found.change(known) == "1 of 5 images have changed since the run began, first t[3]"


def test_files_that_cannot_be_read(image_folder: MakeFolder) -> None:
    """Training reports them; once they can be read, it is another set."""
    root = image_folder(a=2, b=2)
    paths = tuple(sorted(root.rglob("*.png")))
    images = FolderImages(paths=paths, labels=np.zeros(4, np.int64), class_names=("a",))
    whole = fingerprint([images])
    paths[1].unlink()
    missing = fingerprint([images], whole)
    assert missing.contents_N[1] == 0 and missing.summary != whole.summary
    assert missing.change(whole).startswith(
        f"1 of 4 images have changed since the run began, first {paths[1]}"
    )


def test_what_is_kept_comes_back(image_folder: MakeFolder, tmp_path: Path) -> None:
    known = read(image_folder(a=6, b=6))
    path = tmp_path / "data.fingerprint"
    assert load_fingerprint(path) is None
    known.save(path)
    found = load_fingerprint(path)
    assert found is not None and found.same_files(known) and found.summary == known.summary
    data, rng = path.read_bytes(), random.Random(0)
    for bit in rng.sample(range(8 * len(data)), 100):
        path.write_bytes(
            data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        )
        assert load_fingerprint(path) is None
    for length in rng.sample(range(len(data)), 50):
        path.write_bytes(data[:length])
        assert load_fingerprint(path) is None


@pytest.mark.parametrize("num_known", [0, 5, 7])
@pytest.mark.parametrize("whole", [False, True])
def test_a_file_of_another_number_of_images(
    image_folder: MakeFolder, num_known: int, whole: bool
) -> None:
    """Its names and its checksum may be right: it is as if it were not there."""
    root = image_folder(a=3, b=3)
    found = read(root)
    numbers = np.zeros(num_known, np.uint64)
    known = Fingerprint(names=found.names, contents_N=numbers, places_N=numbers, whole=whole)
    assert read(root, known).summary == found.summary
    assert found.change(known) == "images have changed since the run began"
    assert not found.same_files(known)
