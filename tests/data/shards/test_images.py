"""Images of shards: every one exactly once, the files' own pixels, and damage in one line."""

from __future__ import annotations

import pickle
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.compress.images import random_subset
from squeezenet.data.augment import Augmentation
from squeezenet.data.epochs import Epochs
from squeezenet.data.loader import iter_train_batches
from squeezenet.data.shards import images as images_module
from squeezenet.data.shards import storage as storage_module
from squeezenet.data.shards.images import WINDOW_SHARDS, ShardImages
from squeezenet.errors import DataError, ImageError
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from squeezenet.images.folders import read_class_folders
from squeezenet.images.sets import AnyOrder, require_readable_classes
from tests.data.shards.conftest import MakeFolder, MakeShards, open_shards

RECORD = torchvision_preprocessing(resize=8, crop=(8, 8))
PLAIN = Augmentation(flip=False, colour=0.0)


def order(images: ShardImages, seed: int) -> list[int]:
    return images.epoch_order(np.random.default_rng(seed)).tolist()


def test_the_same_pixels_and_labels_as_the_folder(make_shards: MakeShards, tmp_path: Path) -> None:
    shards = open_shards(make_shards())
    folder = read_class_folders(tmp_path / "pictures")
    assert (len(shards), shards.class_names) == (37, folder.class_names)

    def of(images: object) -> Counter[tuple[int, bytes]]:
        return Counter(
            (int(images.labels[i]), images.pixels(i).tobytes())  # type: ignore[attr-defined]
            for i in range(37)
        )

    assert of(shards) == of(folder)


def test_names_are_those_of_the_files(make_shards: MakeShards, tmp_path: Path) -> None:
    shards = open_shards(make_shards())
    inside = [shards.name(i).removeprefix(f"{tmp_path}/shards/shard-0000") for i in range(37)]
    assert inside[0].startswith("00.tar/") and len(set(inside)) == 37
    folder = read_class_folders(tmp_path / "pictures")
    for i in range(37):
        member = inside[i].partition("/")[2]
        class_name, number = member[0], int(member[6:8])
        assert folder.class_names[folder.labels[number]] == class_name
        assert folder.paths[number].stem == member[2:5]


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_an_epoch_has_each_image_once(
    make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(images_module, "WINDOW_SHARDS", window)
    shards = open_shards(make_shards())
    num_shards = len(shards.index.shards)
    assert num_shards > 4
    first = order(shards, 0)
    assert sorted(first) == list(range(37))
    assert first == order(shards, 0) != order(shards, 1)
    # Images of the shards of a window come together, and shards in another order.
    visited = shards.index.shard_of(shards.rows[first]).tolist()
    met = list(dict.fromkeys(visited))
    assert sorted(met) == list(range(num_shards)) != met
    for start in range(0, num_shards, window):
        group = set(met[start : start + window])
        size = sum(shards.index.shards[k].num_samples for k in group)
        assert set(visited[:size]) == group
        del visited[:size]
    assert not visited


def test_a_subset_has_each_of_its_images_once(make_shards: MakeShards) -> None:
    shards = open_shards(make_shards())
    part = shards.subset([30, 2, 3, 17, 5])
    assert sorted(order(part, 3)) == [0, 1, 2, 3, 4]
    for k, i in enumerate([30, 2, 3, 17, 5]):
        assert part.name(k) == shards.name(i) and part.labels[k] == shards.labels[i]
        np.testing.assert_array_equal(part.pixels(k), shards.pixels(i))
    again = part.subset([4, 0], np.array([7, 8]), ("x", "y"))
    assert again.name(0) == shards.name(5) and again.labels.tolist() == [7, 8]
    assert again.class_names == ("x", "y")


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (5, 0), (8, 0), (37, 0), (5, 2)])
def test_training_sees_each_image_once(
    make_shards: MakeShards, batch_size: int, workers: int
) -> None:
    # With workers there is one shard: fewer than there are processes.
    shards = open_shards(make_shards(shard_bytes=1 << 20 if workers else 12_000))
    assert (len(shards.index.shards) == 1) == (workers > 1)
    steps = Epochs(num_images=37, batch_size=batch_size).num_steps(2)
    seen: list[int] = []
    # The second from the middle, as after a resume.
    for first, last in ((0, steps // 2), (steps // 2, steps)):
        batches = iter_train_batches(
            shards.subset(range(37), np.arange(37)), RECORD, PLAIN, batch_size=batch_size, seed=1,
            first_step=first, last_step=last, workers=workers, bad=BadImages(strict=True),
        )  # fmt: skip
        for batch in batches:
            seen += batch.labels.tolist()
    for epoch in (0, 1):
        expected = shards.epoch_order(np.random.default_rng([1, epoch])).tolist()
        assert seen[37 * epoch : 37 * (epoch + 1)] == expected and len(set(expected)) == 37


def test_training_sees_what_it_sees_in_the_folder(
    make_shards: MakeShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = open_shards(make_shards())
    numbers = [int(shards.name(i).rpartition("-")[2].removesuffix(".png")) for i in range(37)]
    folder = read_class_folders(tmp_path / "pictures").subset(numbers)
    # With the order of a folder, batches and so weights are the folder's, to the bit.
    monkeypatch.setattr(ShardImages, "shuffled", AnyOrder.shuffled)
    for one, other in zip(
        *(
            iter_train_batches(
                images, RECORD, Augmentation(), batch_size=8, seed=1, first_step=0, last_step=9,
                workers=0, bad=BadImages(strict=True),
            )
            for images in (shards, folder)
        ),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(one.pixels_NHWC, other.pixels_NHWC)
        assert torch.equal(one.labels, other.labels)


def test_few_images_stand_for_the_set(make_shards: MakeShards) -> None:
    shards = open_shards(make_shards())
    few = shards.few(4)
    assert 4 <= len(few) <= 8
    assert set(shards.index.shard_of(shards.rows[list(few)])) == {0}
    later = shards.subset(range(20, 37))
    assert [later.name(i) for i in later.few(1)] == [shards.name(20)]
    assert list(shards.subset([]).few(3)) == []


def test_images_that_are_drawn_lie_in_few_shards(make_shards: MakeShards) -> None:
    shards = open_shards(make_shards(shard_bytes=6000))
    assert len(shards.index.shards) > 2 * WINDOW_SHARDS
    drawn = random_subset(shards, 12, seed=0)
    assert isinstance(drawn, ShardImages) and len(set(drawn.rows)) == 12
    assert len(set(shards.index.shard_of(drawn.rows))) <= WINDOW_SHARDS


def test_few_files_are_open(make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "MAX_OPEN_SHARDS", 2)
    shards = open_shards(make_shards())
    for i in (0, 36, 18, 0, 25, 36):
        shards.pixels(i)
    files = shards.reader._descriptors
    assert len(files) == 2
    copy = pickle.loads(pickle.dumps(shards))
    assert not copy.reader._descriptors
    np.testing.assert_array_equal(copy.pixels(3), shards.pixels(3))


def missing(shard: Path) -> None:
    shard.unlink()


def cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:1500])


def replaced(shard: Path) -> None:
    content = bytes(len(shard.read_bytes()))
    shard.write_bytes(content)


def a_folder(shard: Path) -> None:
    shard.unlink()
    shard.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (missing, "no such file"),
        (cut, "has 1,500 bytes, expected"),
        (replaced, "is damaged: bytes differ from those that were indexed"),
        (a_folder, "cannot be read (Is a directory)"),
    ],
)
def test_a_shard_that_cannot_be_read_is_one_line(
    make_shards: MakeShards, damage: Callable[[Path], None], reason: str
) -> None:
    folder = make_shards()
    shards = open_shards(folder)
    damage(folder / "shard-000001.tar")
    lost = shards.index.shards[1].num_samples
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    batches = EvalBatches(shards, RECORD, workers=0, bad=bad)
    assert sum(len(batch.labels) for batch in batches) == 37 - lost
    assert bad.count == lost > 2
    assert len(lines) == 1
    assert lines[0].startswith(f"skipped images of {folder}/shard-000001.tar: {reason}")
    strict = EvalBatches(shards, RECORD, workers=0, bad=BadImages(strict=True))
    with pytest.raises(ImageError, match="shard-000001.tar: .*; its image [0-9]+ cannot be read"):
        list(strict)
    require_readable_classes(shards)


def test_a_flipped_byte_of_an_image_costs_that_image(make_shards: MakeShards) -> None:
    folder = make_shards()
    shards = open_shards(folder)
    path = folder / shards.index.shards[2].name
    row = int(shards.index.ends_S[1]) + 1
    content = bytearray(path.read_bytes())
    content[int(shards.index.samples_N["offset"][row]) + 40] ^= 1
    path.write_bytes(content)
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    assert sum(len(b.labels) for b in EvalBatches(shards, RECORD, workers=0, bad=bad)) == 36
    assert bad.count == len(lines) == 1 and "is damaged" in lines[0]


def test_a_flipped_byte_of_a_header_changes_no_image(make_shards: MakeShards) -> None:
    folder = make_shards()
    shards = open_shards(folder)
    path = folder / shards.index.shards[0].name
    content = bytearray(path.read_bytes())
    content[int(shards.index.samples_N["offset"][0]) - 512 + 3] ^= 0xFF
    path.write_bytes(content)
    shards.pixels(0)
    assert shards.name(0).endswith("shard-000000.tar[0]")  # the name in the header is not believed


def test_a_picture_that_cannot_be_decoded_is_named(
    image_folder: MakeFolder, make_shards: MakeShards, tmp_path: Path
) -> None:
    root = image_folder(tmp_path / "pictures", a=4, b=4)
    (root / "b" / "002.png").write_bytes(b"no picture")
    shards = open_shards(make_shards())
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    assert sum(len(b.labels) for b in EvalBatches(shards, RECORD, workers=0, bad=bad)) == 7
    assert len(lines) == 1
    assert "/b/002-6.png: not a readable image" in lines[0]


def test_without_any_shard(make_shards: MakeShards) -> None:
    folder = make_shards()
    shards = open_shards(folder)
    for shard in shards.index.shards:
        (folder / shard.name).unlink()
    with pytest.raises(DataError, match="none of its 17 images can be read"):
        require_readable_classes(shards)
    with pytest.raises(DataError, match="none of the 37 images could be read"):
        list(EvalBatches(shards, RECORD, workers=0))


def test_checksums_are_of_the_bytes(make_shards: MakeShards) -> None:
    shards = open_shards(make_shards())
    sample = shards.index.samples_N[5]
    content = (Path(shards.name(5)).parents[1]).read_bytes()
    offset, size = int(sample["offset"]), int(sample["size"])
    assert int(shards.checksums[5]) == size << 32 | zlib.crc32(content[offset : offset + size])
