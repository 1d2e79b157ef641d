"""Folders of images, batches from worker processes, and the pixel cache."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import DataError, ImageError, UsageError
from squeezenet.images import sets
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from squeezenet.images.folders import read_class_folders, read_eval_folder, read_unlabelled
from squeezenet.images.sets import CachedImages, is_small_set, with_model_labels
from tests.conftest import record_of

MakeFolder = Callable[..., Path]
PREPROCESSING = torchvision_preprocessing(resize=8, crop=(8, 8))


def test_class_folders(image_folder: MakeFolder) -> None:
    root = image_folder(cat=3, dog=2)
    (root / "cat" / "notes.txt").write_text("x")
    (root / ".hidden").mkdir()
    images = read_class_folders(root)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]


def test_folders_that_cannot_be_used(image_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_class_folders(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders inside"):
        read_class_folders(tmp_path / "empty")
    root = image_folder(cat=3, dog=2)
    (root / "bird").mkdir()
    with pytest.raises(DataError, match=r"class 'bird' has no images \(1 of 3 class folders"):
        read_class_folders(root)
    (tmp_path / "flat" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="no images inside"):
        read_class_folders(tmp_path / "flat")


def test_splits(image_folder: MakeFolder, tmp_path: Path) -> None:
    root = tmp_path / "split"
    image_folder(root / "train", a=1, b=2)
    with pytest.raises(UsageError, match="only train/ inside, expected test/ or val/"):
        read_eval_folder(root)
    assert len(read_eval_folder(root, "train")) == 3
    image_folder(root / "val", a=1, b=1)
    assert len(read_eval_folder(root)) == 2
    image_folder(root / "test", a=2, b=2)
    assert len(read_eval_folder(root)) == 4
    assert len(read_eval_folder(root, "val")) == 2
    with pytest.raises(UsageError, match="no folder 'new'"):
        read_eval_folder(root, "new")
    assert len(read_unlabelled(root)) == 9


def test_labels_of_the_model(image_folder: MakeFolder) -> None:
    spec = preset("squeezenet1_1", num_classes=3, input_size=(8, 8))
    base = record_of(spec)
    record = ModelRecord(
        spec=spec,
        preprocessing=base.preprocessing,
        class_names=("tench", "crane", "crane"),
        class_ids=("n1", "n2", "n3"),
    )
    images = with_model_labels(read_class_folders(image_folder(n3=1, tench=2)), record)
    assert images.labels.tolist() == [2, 0, 0]
    other = image_folder(Path(images.name(0)).parents[2] / "other", zebra=1, n1=1)
    with pytest.raises(DataError, match="class 'zebra' is not one of the model's 3 classes"):
        with_model_labels(read_class_folders(other), record)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_and_counted(image_folder: MakeFolder, workers: int) -> None:
    images = read_class_folders(image_folder(a=40, b=40))
    images.paths[3].write_bytes(b"no image")
    reported: list[str] = []
    batches = EvalBatches(
        images, PREPROCESSING, workers=workers, batch_size=7, bad=BadImages(report=reported.append)
    )
    for _ in range(2):  # decoded, then from memory
        seen = [index for batch in batches for index in batch.indices.tolist()]
        assert seen == [i for i in range(80) if i != 3]
    assert batches.bad.count == 1 and "003.png: not a readable image" in reported[0]
    strict = EvalBatches(images, PREPROCESSING, workers=workers, bad=BadImages(strict=True))
    with pytest.raises(ImageError, match="003.png"):
        list(strict)


def test_all_images_bad(image_folder: MakeFolder) -> None:
    images = read_class_folders(image_folder(a=2, b=1))
    for path in images.paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 images"):
        list(EvalBatches(images, PREPROCESSING, workers=0))


@pytest.mark.parametrize(
    "batches",
    [
        "EvalBatches(images, record, workers=2, batch_size=1)",
        # Each batch is larger than a pipe's buffer, so workers block until it is read.
        "iter_train_batches(images, record, Augmentation(), batch_size=70, seed=0, first_step=0, "
        "last_step=9, workers=2, bad=BadImages())",
    ],
    ids=["evaluation", "training"],
)
def test_workers_end_with_a_killed_parent(image_folder: MakeFolder, batches: str) -> None:
    """SIGKILL of the parent leaves no worker process running."""
    folder = image_folder(a=70)
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from squeezenet.arch.preprocessing import torchvision_preprocessing\n"
        "from squeezenet.data.augment import Augmentation\n"
        "from squeezenet.data.loader import iter_train_batches\n"
        "from squeezenet.images.bad import BadImages\n"
        "from squeezenet.images.batches import EvalBatches\n"
        "from squeezenet.images.folders import read_class_folders\n"
        "if __name__ == '__main__':\n"
        "    images = read_class_folders(Path(sys.argv[1]))\n"
        "    record = torchvision_preprocessing(resize=64, crop=(64, 64))\n"
        f"    for batch in {batches}:\n"
        "        print('decoding', flush=True)\n"
        "        time.sleep(60)\n"
    )
    script = folder.parent / "parent.py"
    script.write_text(program)
    with subprocess.Popen(
        [sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "decoding\n"
        tasks = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        if not tasks.exists():
            parent.kill()
            pytest.skip("needs Linux's list of a process's children")
        time.sleep(1)  # until the workers have prefetched all that they may
        workers = [Path(f"/proc/{child}") for child in tasks.read_text().split()]
        parent.kill()
    deadline = time.monotonic() + 20
    while any((w / "cmdline").exists() and (w / "cmdline").read_bytes() for w in workers):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.1)


def test_the_cache_keeps_sizes_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a set gives does not depend on the cache, nor on what was asked for before."""
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{i}.jpg")
    images = read_class_folders(tmp_path)
    cached = CachedImages(images)
    for min_side in (16, None, 32, 16, 33, None):
        for i in range(3):
            np.testing.assert_array_equal(cached.pixels(i, min_side), images.pixels(i, min_side))
    assert cached.pixels(0, 16).shape == (16, 20, 3) and cached.pixels(0).shape == (64, 80, 3)
    monkeypatch.setattr(sets, "MAX_CACHED_BYTES", 3 * 16 * 20 * 3)
    assert is_small_set(images, 16) and not is_small_set(images, 17) and not is_small_set(images)


def test_cached_images_are_decoded_once_up_to_the_memory_limit(
    image_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read_class_folders(image_folder(a=6, b=6))
    assert is_small_set(images)
    one = images.pixels(0).nbytes
    monkeypatch.setattr(sets, "MAX_CACHED_BYTES", 5 * one)
    assert not is_small_set(images)
    cached = CachedImages(images)
    first = [cached.pixels(i).copy() for i in range(12)]
    for path in images.paths:
        path.write_bytes(b"")
    assert not is_small_set(images)  # no image can be read, so no size is known
    for i in range(5):
        np.testing.assert_array_equal(cached.pixels(i), first[i])
    with pytest.raises(ImageError):
        cached.pixels(5)
    assert cached.subset([1]).name(0) == images.name(1) and cached.class_names == ("a", "b")
