"""Folders of results: nothing that squeezenet did not write is replaced."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet import output_folder
from squeezenet.errors import CheckpointError, UsageError
from squeezenet.folder_lock import FolderLock
from squeezenet.output_folder import SUMS, OutputFolder

FILES = {"a.txt": b"a", "b.txt": b"b"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_new_empty_and_own_folders(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    assert OutputFolder(folder).write(FILES) == [folder / "a.txt", folder / "b.txt"]
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=True)
    (folder / "mine.txt").write_text("beside them")
    OutputFolder(folder).write({"a.txt": b"new"})
    OutputFolder(folder).write({"c.txt": b"c"})
    found = contents(folder)
    assert found.pop(SUMS).count(b"\n") == 4
    assert found == {"a.txt": b"new", "b.txt": b"b", "c.txt": b"c", "mine.txt": b"beside them"}
    (tmp_path / "empty").mkdir()
    OutputFolder(tmp_path / "empty").write(FILES)


def foreign(folder: Path) -> None:
    (folder / "thesis.txt").write_text("mine")


def same_name(folder: Path) -> None:
    (folder / "a.txt").write_text("mine")


def other_sums(folder: Path) -> None:
    """A list that another program wrote, even of these files, is no mark."""
    (folder / SUMS).write_text(
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.txt\n"
    )
    (folder / "a.txt").write_bytes(b"a")


def changed(folder: Path) -> None:
    OutputFolder(folder).write(FILES)
    (folder / "a.txt").write_text("edited by hand")


def unlisted(folder: Path) -> None:
    OutputFolder(folder).write({"b.txt": b"b"})
    (folder / "a.txt").write_text("mine")


def link_inside(folder: Path) -> None:
    OutputFolder(folder).write(FILES)
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(folder.parent / "precious")


def link_of_sums(folder: Path) -> None:
    OutputFolder(folder).write(FILES)
    (folder / SUMS).rename(folder.parent / "precious")
    (folder / SUMS).symlink_to(folder.parent / "precious")


def folder_inside(folder: Path) -> None:
    OutputFolder(folder).write({"b.txt": b"b"})
    (folder / "a.txt").mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign, "exists already, expected a new or empty folder"),
        (same_name, "exists already, expected a new or empty folder"),
        (other_sums, "exists already, expected a new or empty folder"),
        (changed, "a.txt: was written or changed by somebody else"),
        (unlisted, "a.txt: was written or changed by somebody else"),
        (link_inside, "a.txt: is a link or a folder, expected a file"),
        (link_of_sums, "exists already"),
        (folder_inside, "a.txt: is a link or a folder, expected a file"),
    ],
)
def test_what_is_not_ours_is_refused_and_untouched(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    (tmp_path / "precious").write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    make(folder)
    before, outside = contents(folder), (tmp_path / "precious").read_bytes()
    times = {path: path.lstat().st_mtime_ns for path in (folder, *folder.iterdir())}
    with pytest.raises(UsageError, match=message):
        OutputFolder(folder).check(list(FILES))
    with pytest.raises(UsageError, match=message):
        OutputFolder(folder).write(FILES)
    assert contents(folder) == before and (tmp_path / "precious").read_bytes() == outside
    assert {path: path.lstat().st_mtime_ns for path in (folder, *folder.iterdir())} == times


def test_links_and_files_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    for name, message in (
        ("link", "is a symbolic link"), ("dangling", "is a symbolic link"), ("file", "is a file")
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            OutputFolder(tmp_path / name).write(FILES)
    assert not list((tmp_path / "empty").iterdir()) and not (tmp_path / "missing").exists()


def test_a_folder_that_is_ours_by_its_place(tmp_path: Path) -> None:
    """Reports of an earlier version have no sums; with sums, they decide here too."""
    same_name(tmp_path)
    OutputFolder(tmp_path, is_ours=True).write(FILES)
    assert (tmp_path / "a.txt").read_bytes() == b"a"
    (tmp_path / "a.txt").write_text("edited by hand")
    with pytest.raises(UsageError, match="changed by somebody else"):
        OutputFolder(tmp_path, is_ours=True).write(FILES)


@pytest.mark.parametrize("killed_at", range(5))
def test_a_kill_at_any_moment_leaves_a_folder_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    OutputFolder(tmp_path).write(FILES)
    writes = [0]
    write = output_folder.write_bytes_atomically

    def killed(path: Path, data: bytes) -> None:
        if writes[0] == killed_at:
            raise KeyboardInterrupt
        writes[0] += 1
        write(path, data)

    new = {"a.txt": b"A", "b.txt": b"B"}
    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "write_bytes_atomically", killed)
        if killed_at < 4:  # sums, two files, sums
            with pytest.raises(KeyboardInterrupt):
                OutputFolder(tmp_path).write(new)
    OutputFolder(tmp_path).write(new)
    assert (tmp_path / "a.txt").read_bytes() == b"A"


def test_another_process_writes_in_it(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path),
        pytest.raises(CheckpointError, match="another process"),
    ):
        OutputFolder(tmp_path).write(FILES)
