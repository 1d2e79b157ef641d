"""Tars that others wrote: indexed by webdataset's rules, and every fault in one line."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from squeezenet.data.shards.index import INDEX, TABLE, read_index
from squeezenet.data.shards.scan import index_folder, scan_shard
from squeezenet.errors import DataError, UsageError
from tests.data.shards.conftest import MakeShards, open_shards


def picture(value: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (value, value, value)).save(file, kind)
    return file.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[call-overload]
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pairs(numbers: Iterable[int]) -> list[tuple[str, bytes]]:
    return [
        file
        for i in numbers
        for file in ((f"{i:04}.png", picture(i)), (f"{i:04}.cls", str(i % 3).encode()))
    ]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_others(tmp_path: Path, kind: int) -> None:
    write_tar(tmp_path / "b.tar", pairs(range(4, 9)), format=kind)
    write_tar(tmp_path / "a.tar", pairs(range(4)), format=kind)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    index, unused = index_folder(tmp_path, workers=0)
    assert not unused and index.class_names == ("class0", "class1", "class2")
    images = open_shards(tmp_path)
    assert images.labels.tolist() == [i % 3 for i in range(9)]
    assert [int(images.pixels(i)[0, 0, 0]) for i in range(9)] == list(range(9))
    assert images.name(4) == f"{tmp_path}/b.tar/0004.png"
    assert all(path.read_bytes() == content for path, content in before.items())


def test_webdatasets_own_writer(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as tar:
        for i in range(5):
            pixels = np.full((4, 3, 3), i, np.uint8)
            tar.write({"__key__": f"a/{i}", "png": pixels, "cls": i, "json": {"more": i}})
    index_folder(tmp_path, ("v", "w", "x", "y", "z"), workers=0)
    images = open_shards(tmp_path)
    assert images.class_names == ("v", "w", "x", "y", "z")
    assert [int(images.pixels(i)[0, 0, 0]) for i in range(5)] == images.labels.tolist()


def test_samples_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    files = [
        ("__meta__", b"about the tar"),
        ("a.JPG", picture(1, "JPEG")), ("a.cls", b"1\n"),
        ("b.jpeg", picture(2, "JPEG")),
        ("c.cls", b"2"),
        ("d.png", picture(3)), ("d.jpg", picture(4, "JPEG")), ("d.cls", b"0"),
        ("e.png", picture(5)), ("e.cls", b"five"),
        ("f.png", picture(6)), ("f.cls", b"99999999"),
        ("g.png", b""), ("g.cls", b"0"),
        ("h.seg.png", picture(7)), ("h.cls", b"0"),
        ("folder.v2/i.webp", picture(8, "WEBP")), ("folder.v2/i.cls", b"0"),
    ]  # fmt: skip
    write_tar(tmp_path / "0.tar", files)
    index, unused = index_folder(tmp_path, workers=0)
    assert index.samples_N["label"].tolist() == [1, 0]
    assert dict(unused) == {
        "without a class (.cls)": 1,
        "without a picture": 2,
        "with several pictures": 1,
        "whose .cls is no number of a class": 2,
        "with an empty picture, or one of over 4 GB": 1,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar" * 200,
        gzip.compress(b"x" * 5000, mtime=0),
        "cut in a header",
        "cut in a picture",
        "flipped header",
        "flipped first header",
        "twice",
    ],
)
def test_damaged_tars(tmp_path: Path, content: bytes | str) -> None:
    path = write_tar(tmp_path / "0.tar", pairs(range(20)))
    whole = bytearray(path.read_bytes())
    if content == "cut in a header":
        content = bytes(whole[: 2048 * 4 + 300])
    elif content == "cut in a picture":
        content = bytes(whole[: 2048 * 4 + 512 + 20])
    elif content == "flipped header":
        whole[2048 * 4 + 5] ^= 1
        content = bytes(whole)
    elif content == "flipped first header":
        whole[5] ^= 1
        content = bytes(whole)
    elif content == "twice":
        path = write_tar(tmp_path / "0.tar", pairs([1]) + pairs([1]))
        content = path.read_bytes()
    assert isinstance(content, bytes)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: is damaged, compressed, or no tar"):
        scan_shard(path)
    with pytest.raises(DataError):
        index_folder(tmp_path, workers=0)
    assert not (tmp_path / INDEX).exists() and not (tmp_path / TABLE).exists()


def test_folders_without_samples(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        index_folder(tmp_path / "none", workers=0)
    with pytest.raises(DataError, match=r"no tars inside; expected files such as 000000.tar"):
        index_folder(tmp_path, workers=0)
    (tmp_path / "0.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"0.tar.gz is compressed, unpack it"):
        index_folder(tmp_path, workers=0)
    write_tar(tmp_path / "0.tar", [("a.txt", b"x")])
    with pytest.raises(DataError, match="no samples to use in 1 tars, 1 without a picture"):
        index_folder(tmp_path, workers=0)


def test_too_few_names(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", pairs(range(3)))
    with pytest.raises(DataError, match="classes up to number 2, and there are 2 class names"):
        index_folder(tmp_path, ("a", "b"), workers=0)


def test_files_of_others_are_left(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", pairs(range(3)))
    for name in (INDEX, TABLE):
        (tmp_path / name).write_text("theirs")
        with pytest.raises(UsageError, match=f"{tmp_path / name}: .* rename or remove it first"):
            index_folder(tmp_path, workers=0)
        assert (tmp_path / name).read_text() == "theirs"
        (tmp_path / name).unlink()


def test_an_index_is_made_anew(make_shards: MakeShards) -> None:
    folder = make_shards()
    table = (folder / TABLE).read_bytes()
    (folder / TABLE).write_bytes(table[:-1])
    index_folder(folder, workers=0)
    assert (folder / TABLE).read_bytes() == table
    assert read_index(folder).class_names == ("a", "b", "c")  # those of the index before
