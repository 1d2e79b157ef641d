"""Writing shards: the files' bytes, the same after any kill, and nothing of others touched."""

from __future__ import annotations

import errno
import gc
import os
import signal
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from squeezenet.data.shards.index import read_index
from squeezenet.data.shards.keys import ending, sample_key
from squeezenet.data.shards.plan import ShardPlan, plan_shards
from squeezenet.data.shards.scan import scan_shard
from squeezenet.data.shards.write import write_shards
from squeezenet.errors import CheckpointError, DataError, UsageError
from squeezenet.folder_lock import FolderLock
from squeezenet.images.folders import read_class_folders
from squeezenet.progress import SilentProgress
from tests.data.shards.conftest import MakeFolder


@pytest.fixture
def root(image_folder: MakeFolder, tmp_path: Path) -> Path:
    return image_folder(tmp_path / "pictures", a=17, b=12, c=8)


def plan(root: Path, shard_bytes: int = 12_000, seed: int = 0) -> ShardPlan:
    return plan_shards(read_class_folders(root), root, shard_bytes=shard_bytes, seed=seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# webdataset leaves files to be closed by whoever collects garbage.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_files_as_they_were(root: Path, tmp_path: Path) -> None:
    write_shards(plan(root), tmp_path / "out", workers=0)
    urls = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len({sample["__key__"] for sample in samples}) == len(samples) == 37
    found = Counter((int(sample["cls"]), sample["png"]) for sample in samples)
    images = read_class_folders(root)
    expected = Counter(
        (int(label), path.read_bytes())
        for label, path in zip(images.labels, images.paths, strict=True)
    )
    assert found == expected
    decoded = next(iter(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8")))
    assert decoded["png"].shape == (12, 16, 3) and type(decoded["cls"]) is int
    gc.collect()


def test_the_index_is_what_a_scan_of_the_tars_finds(root: Path, tmp_path: Path) -> None:
    written = write_shards(plan(root), tmp_path / "out", workers=0)
    index = read_index(tmp_path / "out")
    assert written.index.shards == index.shards
    scanned = [scan_shard(tmp_path / "out" / shard.name) for shard in index.shards]
    assert tuple(each.shard for each in scanned) == index.shards
    np.testing.assert_array_equal(
        np.concatenate([each.samples_N for each in scanned]), index.samples_N
    )


def test_any_few_shards_are_a_fair_sample(image_folder: MakeFolder, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "many", a=200, b=200)
    index = write_shards(plan(root, 200_000), tmp_path / "out", workers=0).index
    assert len(index.shards) > 3
    first = index.samples_N["label"][: index.ends_S[0]]
    assert 0.25 < first.mean() < 0.75 and (np.diff(first.astype(int)) != 0).sum() > 10
    sizes = [shard.num_bytes for shard in index.shards]
    assert max(sizes) < 1.3 * min(sizes)


def test_tars_say_nothing_of_who_made_them(root: Path, tmp_path: Path) -> None:
    write_shards(plan(root), tmp_path / "out", workers=0)
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_the_number_of_processes_changes_nothing(root: Path, tmp_path: Path) -> None:
    write_shards(plan(root), tmp_path / "one", workers=0)
    write_shards(plan(root), tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    write_shards(plan(root, seed=1), tmp_path / "other", workers=0)
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def run_and_kill(root: Path, out: Path, at: int, shard_bytes: int = 12_000) -> bool:
    """Write in a child that is killed before its ``at``-th change on the disk; whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return call

        os.fsync = counted(os.fsync)  # type: ignore[assignment]
        Path.replace = counted(Path.replace)  # type: ignore[method-assign]
        Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
        try:
            write_shards(plan(root, shard_bytes), out, workers=0)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_a_kill_at_every_change_on_the_disk(root: Path, tmp_path: Path) -> None:
    write_shards(plan(root, 40_000), tmp_path / "undisturbed", workers=0)
    expected = contents(tmp_path / "undisturbed")
    at = 0
    was_killed = True
    while was_killed:
        at += 1
        out = tmp_path / f"killed-{at}"
        was_killed = run_and_kill(root, out, at, 40_000)
        for name, content in contents(out).items():
            if name.endswith(".tar"):
                assert content == expected[name]
        write_shards(plan(root, 40_000), out, workers=0)
        assert contents(out) == expected
    assert at > 20


def test_many_kills_of_one_job(root: Path, tmp_path: Path) -> None:
    write_shards(plan(root), tmp_path / "undisturbed", workers=0)
    num_kills = 0
    while run_and_kill(root, tmp_path / "out", 12):
        num_kills += 1
    assert num_kills > 3
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_finished_shards_are_not_written_again(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = write_shards(plan(root), out, workers=0)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = write_shards(plan(root), out, workers=0)
    assert again.index.shards == first.index.shards
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("change", ["picture", "seed", "size", "class"])
def test_shards_of_other_pictures_are_refused(root: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    write_shards(plan(root), out, workers=0)
    before = contents(out)
    if change == "picture":
        (root / "a" / "000.png").write_bytes(b"another")
    if change == "class":
        (root / "a").rename(root / "z")
    other = plan(root, 13_000 if change == "size" else 12_000, int(change == "seed"))
    with pytest.raises(UsageError, match="holds shards of other pictures"):
        write_shards(other, out, workers=0)
    assert contents(out) == before


def test_an_unfinished_folder_of_other_pictures_is_refused(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_and_kill(root, out, 20)
    before = contents(out)
    with pytest.raises(UsageError, match="holds shards of other pictures"):
        write_shards(plan(root, seed=1), out, workers=0)
    assert contents(out) == before


def test_files_of_others_are_left(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no shards"):
        write_shards(plan(root), out, workers=0)
    (out / "mine.txt").unlink()
    assert run_and_kill(root, out, 20)
    (out / "mine.txt").write_text("mine")
    theirs = out / "shard-000003.tar"
    assert not theirs.exists()
    theirs.write_text("theirs")
    with pytest.raises(UsageError, match=f"{theirs}: was written or changed by somebody else"):
        write_shards(plan(root), out, workers=0)
    assert theirs.read_text() == "theirs"
    theirs.unlink()
    theirs.symlink_to(out / "mine.txt")
    with pytest.raises(UsageError, match=f"{theirs}: is a symbolic link"):
        write_shards(plan(root), out, workers=0)
    theirs.unlink()
    write_shards(plan(root), out, workers=0)
    assert (out / "mine.txt").read_text() == "mine"


def test_one_process_at_a_time(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        FolderLock(tmp_path / "out"),
        pytest.raises(CheckpointError, match="another process"),
    ):
        write_shards(plan(root), tmp_path / "out", workers=0)


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_pictures_that_cannot_be_opened(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a" / "000.png").write_bytes(b"")
    read = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == "001.png" and path.parent.name == "b":
            raise OSError(errno.EACCES, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    log = Lines()
    written = write_shards(plan(root), tmp_path / "out", workers=0, progress=log)
    assert len(written.index.samples_N) == 35
    assert written.skipped == (
        f"{root}/a/000.png: is empty",
        f"{root}/b/001.png: cannot be opened (Permission denied)",
    )
    assert [f"skipped {line}" for line in written.skipped] == log.lines
    with pytest.raises(DataError, match="a/000.png: is empty"):
        write_shards(plan(root), tmp_path / "strict", workers=0, strict=True)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 37 pictures can be opened"):
        plan(root)


def test_a_full_disk_leaves_what_can_be_continued(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, count = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_shards(plan(root), tmp_path / "out", workers=0)
    monkeypatch.setattr(os, "fsync", sync)
    write_shards(plan(root), tmp_path / "out", workers=0)
    write_shards(plan(root), tmp_path / "undisturbed", workers=0)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_picture_larger_than_a_shard(root: Path, tmp_path: Path) -> None:
    (root / "a" / "000.png").write_bytes(bytes(100_000))
    index = write_shards(plan(root), tmp_path / "out", workers=0).index
    assert len(index.samples_N) == 37 and all(shard.num_samples for shard in index.shards)
    with pytest.raises(UsageError, match="--shard-size of 100 bytes"):
        plan(root, 100)


@pytest.mark.parametrize(
    ("class_name", "file", "expected"),
    [
        ("cat", "IMG_1.jpg", "cat/IMG_1-07"),
        ("__meta__", "a.b.c.jpg", "meta__/a_b_c-07"),
        ("great white shark", "ü x.png", "great_white_shark/ü_x-07"),
        ("...", "___.png", "picture/picture-07"),
        ("x" * 100, "é" * 100 + ".png", "x" * 60 + "/" + "é" * 30 + "-07"),
    ],
)
def test_keys(class_name: str, file: str, expected: str) -> None:
    assert sample_key(class_name, Path("folder") / file, 7, 100) == expected
    assert webdataset.tariterators.base_plus_ext(f"{expected}.jpg") == (expected, "jpg")


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.JPEG", b"", "jpeg"),
        ("a.cls", b"\xff\xd8\xff\xe0", "jpg"),
        ("a", b"\x89PNG\r\n\x1a\n", "png"),
        ("a.dat", b"RIFF\0\0\0\0WEBP", "webp"),
        ("a.x", b"GIF89a", "gif"),
        ("a.x", b"BM" + bytes(12) + b"\x28\0\0\0", "bmp"),
        ("a.x", b"\0\0\0\x18ftypheic", "heic"),
        ("a.x", b"nothing", "img"),
    ],
)
def test_endings(file: str, content: bytes, expected: str) -> None:
    assert ending(Path(file), content) == expected
