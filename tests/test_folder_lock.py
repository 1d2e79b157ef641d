"""One process per folder; a lock ends with its process, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from squeezenet.errors import CheckpointError
from squeezenet.folder_lock import LOCK, FolderLock

HOLD = """
import sys, time, subprocess
from pathlib import Path
from squeezenet.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    if len(sys.argv) > 2:
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        child = subprocess.Popen(sleep, close_fds=False)
        print(child.pid, flush=True)
    print("locked", flush=True)
    time.sleep(60)
"""


def holder(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Start a process that holds the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert line_of(process) == "locked"
    text = (tmp_path / LOCK).read_bytes()
    message = rf"another process \(pid {process.pid} on .* since .*\) is working in this folder"
    with pytest.raises(CheckpointError, match=message), FolderLock(tmp_path):
        pass
    assert (tmp_path / LOCK).read_bytes() == text
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK).exists()  # and yet free
    with FolderLock(tmp_path):
        assert f"pid {os.getpid()} " in (tmp_path / LOCK).read_text()
    assert not list(tmp_path.iterdir())


def test_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    process = holder(tmp_path, "with a child")
    child = int(line_of(process))
    assert line_of(process) == "locked"
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        with FolderLock(tmp_path):
            os.kill(child, 0)  # it still lives
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_a_second_thread_is_refused_too(tmp_path: Path) -> None:
    errors: list[str] = []

    def work() -> None:
        try:
            with FolderLock(tmp_path):
                pass
        except CheckpointError as error:
            errors.append(str(error))

    with FolderLock(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(errors) == 1 and f"pid {os.getpid()} " in errors[0]
    work()
    assert len(errors) == 1


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened before its holder removed it, the old file is worth nothing."""
    opened: list[int] = []
    open_lock = FolderLock._open

    def open_late(self: FolderLock) -> None:
        open_lock(self)
        opened.append(self._descriptor)
        if len(opened) == 1:
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(FolderLock, "_open", open_late)
    with FolderLock(tmp_path):
        assert len(opened) == 2
        assert os.path.samestat(os.fstat(opened[-1]), (tmp_path / LOCK).stat())


def test_the_text_of_a_lock_is_not_trusted(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert line_of(process) == "locked"
    (tmp_path / LOCK).write_bytes(b"\x1b]0;attacked\x07" * 100)
    with pytest.raises(CheckpointError, match=r"\(just started\)"), FolderLock(tmp_path):
        pass
    end(process)


def test_a_lock_follows_no_link_and_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / LOCK).symlink_to(tmp_path / "target")
    with pytest.raises(CheckpointError, match="cannot be written"):
        FolderLock(tmp_path / "folder").__enter__()
    assert not (tmp_path / "target").exists()
    with pytest.raises(CheckpointError, match="cannot be written"):
        FolderLock(tmp_path / "missing").__enter__()


def test_the_folder_may_go_with_the_lock(tmp_path: Path) -> None:
    for name, more in (("empty", False), ("full", True)):
        folder = tmp_path / name
        folder.mkdir()
        with FolderLock(folder) as lock:
            lock.removes_folder = True
            if more:
                (folder / "mine").touch()
        assert folder.exists() == more and not (folder / LOCK).exists()
