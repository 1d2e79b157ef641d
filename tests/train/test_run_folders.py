"""Run folders of others, of another process, on other images; and links inside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from squeezenet.cli.app import run as cli
from squeezenet.data.sources import TrainingData, open_training_data
from squeezenet.errors import CheckpointError, InterruptedRunError, UsageError
from squeezenet.folder_lock import LOCK, FolderLock
from squeezenet.train.run_folder import RunFolder
from tests.train.small import Log, bright_images, quick, quick_run, small_data

SETTINGS = {"seed": 1}


def state_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Times and contents of all that is in a folder, and its own time."""
    return {
        path: (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in (folder, *folder.rglob("*"))
    }


def foreign_settings(folder: Path) -> None:
    (folder / "run.json").write_text('{"seed": 1}')


def notes(folder: Path) -> None:
    (folder / ".notes.tmp").write_text("precious")
    (folder / "thesis.txt").write_text("precious")


def hidden(folder: Path) -> None:
    (folder / ".notes.tmp").write_text("precious")


def other_run(folder: Path) -> None:
    RunFolder(folder).open({"seed": 2})
    (folder / ".a.abcd_123.squeezenet.tmp").write_text("of a process that may still write")
    (folder / ".notes.tmp").write_text("precious")


def open_it(run: RunFolder) -> None:
    run.open(SETTINGS)


def check_it(run: RunFolder) -> None:
    run.check(SETTINGS)


def lock_it(run: RunFolder) -> None:
    with run.lock():
        pass


@pytest.mark.parametrize(
    ("make", "call"),
    [
        *((make, open_it) for make in (foreign_settings, notes, hidden, other_run)),
        *((make, check_it) for make in (foreign_settings, notes, hidden, other_run)),
        *((make, lock_it) for make in (notes, hidden)),
    ],
)
def test_a_refused_folder_is_left_to_the_byte(
    tmp_path: Path, make: Callable[[Path], None], call: Callable[[RunFolder], None]
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    make(folder)
    before = state_of(folder)
    with pytest.raises((UsageError, CheckpointError)):
        call(RunFolder(folder))
    assert state_of(folder) == before


@pytest.mark.parametrize("make", [foreign_settings, notes, hidden])
def test_train_refuses_folders_of_others(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    make(folder)
    before = state_of(folder)
    with pytest.raises((UsageError, CheckpointError)):
        quick_run(folder, quick(epochs=1))
    assert state_of(folder) == before


def test_what_out_may_name(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    RunFolder(tmp_path / "link").open(SETTINGS)  # runs on another disk are linked to
    assert (tmp_path / "elsewhere" / "run.json").is_file()
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    with pytest.raises(UsageError, match="dangling: is a link to nothing"):
        RunFolder(tmp_path / "dangling").open(SETTINGS)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: is a file, expected a folder"):
        RunFolder(tmp_path / "file").open(SETTINGS)


@pytest.mark.parametrize("denied", ["iterdir", "mkdir"])
def test_folders_without_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    def refuse(*arguments: object, **options: object) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "there").mkdir()
    monkeypatch.setattr(Path, denied, refuse)
    out = tmp_path / ("there" if denied == "iterdir" else "new")
    with pytest.raises(CheckpointError, match=r"cannot be \w+ \(Permission denied\)"):
        RunFolder(out).open(SETTINGS)


@pytest.mark.parametrize(
    "name",
    ["run.json", "result.json", "metrics.jsonl", "checkpoints", "tensorboard", "best.safetensors",
     "last.safetensors", "report", "data.fingerprint"],
)  # fmt: skip
def test_links_inside_a_run_are_refused(tmp_path: Path, name: str) -> None:
    """A run folder from somebody else could have them point anywhere."""
    run = tmp_path / "run"
    quick_run(run, quick(epochs=1))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "step-000000001.pt").write_text("mine")
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "precious" if "." not in name else tmp_path / "missing")
    with pytest.raises((UsageError, CheckpointError), match=f"{name}: is a symbolic link"):
        quick_run(run, quick(epochs=2))
    assert not (tmp_path / "missing").exists()
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["step-000000001.pt"]


def test_a_run_is_locked_while_it_trains(tmp_path: Path) -> None:
    run, errors = tmp_path / "run", []

    def other() -> None:
        try:
            quick_run(run, quick(epochs=2))
        except CheckpointError as error:
            errors.append(str(error))

    def second() -> None:
        assert (run / LOCK).is_file()
        before = state_of(run)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert state_of(run) == before

    result = quick_run(run, quick(epochs=2), progress=Log({3: second}))
    assert result["steps"] == 8 and len(errors) == 1
    assert f"run: another process (pid {os.getpid()} on " in errors[0]
    assert not (run / LOCK).exists()


def test_an_interrupted_run_frees_its_lock(tmp_path: Path) -> None:
    log = Log({2: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(InterruptedRunError):
        quick_run(tmp_path / "run", quick(epochs=1), progress=log)
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_finished_run_needs_no_lock(tmp_path: Path) -> None:
    """It may lie in a folder that cannot be written."""
    run = tmp_path / "run"
    quick_run(run, quick(epochs=1))
    before = state_of(run)
    with FolderLock(run):
        log = Log()
        quick_run(run, quick(epochs=1), progress=log)
    assert "this run is finished" in log.lines[-1]
    after = state_of(run)
    assert {p: c for p, c in after.items() if p != run} == {
        p: c for p, c in before.items() if p != run
    }


def test_a_killed_training_leaves_no_lock_that_holds(tmp_path: Path) -> None:
    """Nor do its worker processes, whichever end first."""
    run = tmp_path / "run"
    code = (
        "from pathlib import Path\n"
        "from tests.train.small import quick, quick_run\n"
        "if __name__ == '__main__':\n"
        f"    quick_run(Path({str(run)!r}), quick(epochs=100000), workers=1)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/step-*.pt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    with pytest.raises(CheckpointError, match=f"pid {process.pid} "), RunFolder(run).lock():
        pass
    process.kill()
    process.wait()
    with RunFolder(run).lock():
        pass


def on(root: Path) -> TrainingData:
    return open_training_data(str(root))


def retrain(run: Path, root: Path, log: Log | None = None, **changes: object) -> dict[str, object]:
    recipe = quick(batch_size=4, **{"epochs": 1, **changes})
    return quick_run(run, recipe, data=on(root), progress=log)


def swap(root: Path) -> None:
    (root / "a").rename(root / "x")
    (root / "b").rename(root / "a")
    (root / "x").rename(root / "b")


@pytest.mark.parametrize("stage", ["finished", "stopped", "longer", "without the kept hashes"])
def test_other_pictures_under_the_same_names(
    image_folder: Callable[..., Path], tmp_path: Path, stage: str
) -> None:
    root, run = image_folder(a=8, b=8, size=(8, 8)), tmp_path / "run"
    retrain(run, root)
    if stage == "stopped":
        (run / "result.json").unlink()
    if stage == "without the kept hashes":
        (run / "data.fingerprint").write_bytes(b"damaged")
    swap(root)
    before = state_of(run)
    message = "run: 16 of 16 images have changed since the run began, first .*a/00.*png, under the "
    if stage == "without the kept hashes":
        message = "run: images have changed since the run began, under the "
    with pytest.raises(CheckpointError, match=message + "same names; choose another --out"):
        retrain(run, root, epochs=2 if stage == "longer" else 1)
    assert state_of(run) == before
    swap(root)
    assert retrain(run, root, epochs=2)["epochs"] == 2.0


def test_other_names_are_another_message(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    root, run = image_folder(a=8, b=8, size=(8, 8)), tmp_path / "run"
    retrain(run, root)
    (root / "a" / "000.png").rename(root / "a" / "new.png")
    with pytest.raises(CheckpointError, match="a run on other images: their names or labels"):
        retrain(run, root)


def test_copied_and_touched_pictures_go_on(
    image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root, run = image_folder(a=8, b=8, size=(8, 8)), tmp_path / "run"
    retrain(run, root)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copy)
    log = Log()
    retrain(run, tmp_path / "copy", log)
    assert log.lines == [f"{run}: this run is finished; a larger --epochs trains it longer"]
    assert retrain(run, tmp_path / "copy", epochs=2)["epochs"] == 2.0


def test_images_in_memory_have_contents_too(tmp_path: Path) -> None:
    data = small_data()
    quick_run(tmp_path, quick(epochs=1), data=data)
    other = bright_images(32)
    other.pixels_NHWC[0, 0, 0, 0] ^= 1
    changed = TrainingData(train=other, val=data.val)
    message = r"1 of 42 images have changed since the run began, first noise0\[0\]"
    with pytest.raises(CheckpointError, match=message):
        quick_run(tmp_path, quick(epochs=2), data=changed)


def test_the_command_says_so_in_one_line(
    image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = image_folder(a=8, b=8, size=(8, 8)), tmp_path / "run"
    command = ["train", str(root), "--arch", "squeezenet_tiny", "--out", str(run), "--threads", "1",
               "--max-steps", "1", "--device", "cpu", "--workers", "0"]  # fmt: skip
    assert cli(command) == 0
    swap(root)
    capsys.readouterr()
    assert cli(command) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "16 of 16 images have changed" in line and "internal" not in line


def test_removing_a_run_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    for name, more in (("a", False), ("b", True)):
        run = RunFolder(tmp_path / name)
        quick_run(run.path, quick(epochs=1))
        if more:
            (run.path / "mine.txt").write_text("mine")
            (run.checkpoints / "mine.pt").write_text("mine")
        with run.lock():
            assert run.remove() == (not more)
        if more:
            found = {path.name for path in run.path.rglob("*")}
            assert found == {"mine.txt", "checkpoints", "mine.pt"}
        else:
            assert not run.path.exists()


def test_equal_runs_in_turn_do_not_meet(tmp_path: Path) -> None:
    """A second process that waits at the lock finds the run finished."""
    run, found = tmp_path / "run", []
    lock = RunFolder.lock

    @contextlib.contextmanager
    def late(self: RunFolder) -> Iterator[None]:
        if not found:
            found.append(1)
            found.append(quick_run(run, quick(epochs=1)))
        with lock(self):
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "lock", late)
        result = quick_run(run, quick(epochs=1))
    assert result == found[1] and np.isfinite(result["seconds"])
