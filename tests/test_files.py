"""Files are written whole or not at all, and never through a link."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO, Literal

import pytest

from squeezenet import files
from squeezenet.errors import UsageError
from squeezenet.files import (
    is_leftover,
    make_folder,
    open_regular,
    remove_leftovers,
    require_output,
    write_atomically,
    write_bytes_atomically,
)


def test_temporary_files_carry_our_mark(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(file: BinaryIO) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        file.write(b"new")

    write_atomically(tmp_path / "a.bin", write)
    assert len(seen) == 1 and is_leftover(seen[0]) and seen[0].startswith(".a.bin.")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"new"


@pytest.mark.parametrize(
    "name",
    [".notes.tmp", ".a.abcd_123.tmp", "a.abcd_123.squeezenet.tmp", ".squeezenet.tmp",
     ".swap.squeezenet.tmp", ".a.ABCD_123.squeezenet.tmp", ".a.abcd_123.squeezenet.tmp~"],
)  # fmt: skip
def test_files_of_others_are_no_leftovers(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    (tmp_path / ".a.abcd_123.squeezenet.tmp").write_text("half")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_leftovers_are_files(tmp_path: Path) -> None:
    """Neither a folder nor a link of such a name is removed."""
    (tmp_path / ".a.abcd_123.squeezenet.tmp").mkdir()
    (tmp_path / ".b.abcd_123.squeezenet.tmp").symlink_to(tmp_path / "x")
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_leaves_the_old_content_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = files.os if call == "fsync" else Path
    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes_atomically(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="No such file") as caught:
        write_bytes_atomically(tmp_path / "missing" / "a", b"new")
    assert caught.value.filename == str(tmp_path / "missing" / "a")


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, exists: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    if exists:
        target.write_bytes(b"mine")
    link.symlink_to(target)
    write_bytes_atomically(link, b"new")
    assert not link.is_symlink() and link.read_bytes() == b"new"
    assert target.exists() == exists and (not exists or target.read_bytes() == b"mine")


def test_new_folders_are_synced_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and synced == [tmp_path / "a", tmp_path]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.parametrize(
    ("mode", "content"), [("wb", b"two"), ("ab", b"onetwo"), ("r+b", b"two"), ("rb", b"one")]
)
def test_opening_follows_no_link_and_waits_for_no_pipe(
    tmp_path: Path, mode: Literal["rb", "r+b", "wb", "ab"], content: bytes
) -> None:
    path = tmp_path / "a.part"
    with open_regular(path, "wb") as file:
        file.write(b"one")
    with open_regular(path, mode) as file:
        assert file.read() == b"one" if mode == "rb" else file.write(b"two")
    assert path.read_bytes() == content
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "folder", "pipe"):
        with pytest.raises(OSError):  # noqa: PT011
            open_regular(tmp_path / name, mode)
    assert path.read_bytes() == content
    assert not (tmp_path / "missing").exists()


def test_an_output_is_a_file(tmp_path: Path) -> None:
    model = tmp_path / "m.sqz"
    model.write_bytes(b"m")
    os.mkfifo(tmp_path / "pipe.sqz")
    with pytest.raises(UsageError, match="is a device or a pipe"):
        require_output(tmp_path / "pipe.sqz", model, (".sqz",))
    (tmp_path / "dangling.sqz").symlink_to(tmp_path / "missing")
    require_output(tmp_path / "dangling.sqz", model, (".sqz",))
    (tmp_path / "same.sqz").symlink_to(model)
    with pytest.raises(UsageError, match="is the model itself"):
        require_output(tmp_path / "same.sqz", model, (".sqz",))
