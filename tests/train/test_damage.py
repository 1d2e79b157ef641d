"""Runs go on from what is whole: the checkpoint before, or one clear error; nothing silent."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from squeezenet import files
from squeezenet.errors import CheckpointError, SqueezeNetError, UsageError
from squeezenet.folder_lock import LOCK
from squeezenet.model.load import load_model
from squeezenet.sealed_files import read_sealed_json, write_sealed, write_sealed_json
from squeezenet.train.checkpoint import (
    checkpoint_paths,
    load_latest,
    newest_step,
    remove_old_checkpoints,
    save_checkpoint,
)
from tests.train.small import Log, quick, quick_run

SEED, NUM_FLIPS, NUM_CUTS = 0, 400, 100


def weights(folder: Path) -> bytes:
    return (folder / "last.safetensors").read_bytes()


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 3 epochs of 4 steps, with all its checkpoints."""
    folder = tmp_path_factory.mktemp("damage") / "whole"
    quick_run(folder, quick(epochs=3), keep_checkpoints=True)
    return folder


@pytest.fixture
def stopped(whole: Path, tmp_path: Path) -> Path:
    """The same run, stopped after 2 epochs."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for name in ("result.json", "last.safetensors", "checkpoints/step-000000012.pt"):
        (folder / name).unlink()
    return folder


def resume(folder: Path, log: Log | None = None) -> dict[str, object]:
    return quick_run(folder, quick(epochs=3), progress=log, keep_checkpoints=True)


def test_every_flipped_bit_and_cut_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    """The newest as it was written, or the one before and a line that says so."""
    rng = random.Random(SEED)
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"step": step, "w": torch.full((300,), float(step))})
    older, newest = checkpoint_paths(tmp_path)
    data = newest.read_bytes()
    bits = rng.sample(range(8 * len(data)), NUM_FLIPS)
    damaged = [data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
               for bit in bits]  # fmt: skip
    damaged += [data[:length] for length in rng.sample(range(len(data)), NUM_CUTS)]
    for content in damaged:
        newest.write_bytes(content)
        log = Log()
        state = load_latest(tmp_path, log)
        assert state is not None and state["step"] == 1
        assert torch.equal(state["w"], torch.ones(300))
        assert log.lines == [
            f"{newest}: is damaged; the run goes on from {older.name}, the one before"
        ]
    older.write_bytes(damaged[0])
    with pytest.raises(CheckpointError, match="none of 2 checkpoints can be read"):
        load_latest(tmp_path)


def test_damaged_checkpoints_go_when_there_are_others(tmp_path: Path) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, step, {"step": step})
    (tmp_path / "step-000000020.pt").write_bytes(b"")
    steps = []
    for step in (15, 17, 20):
        save_checkpoint(tmp_path, step, {"step": step})
        steps.append([int(path.stem[5:]) for path in checkpoint_paths(tmp_path)])
    assert steps == [[10, 15], [15, 17], [17, 20]]
    (tmp_path / "step-final.pt").touch()  # not ours
    assert newest_step(tmp_path) == 20
    remove_old_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000020.pt", "step-final.pt",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_run_with_a_damaged_checkpoint_ends_as_it_would_have(
    whole: Path, stopped: Path, seed: int
) -> None:
    newest = stopped / "checkpoints" / "step-000000008.pt"
    flip(newest, random.Random(seed))
    log = Log()
    resume(stopped, log)
    assert log.lines[0] == (
        f"{newest}: is damaged; the run goes on from step-000000004.pt, the one before"
    )
    assert any("at step 4" in line for line in log.lines)
    assert weights(stopped) == weights(whole)


def test_a_run_without_any_whole_checkpoint_is_refused(stopped: Path) -> None:
    for path in checkpoint_paths(stopped / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="none of 2 checkpoints can be read, all are damaged"):
        resume(stopped)
    after = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    assert after == before


NOTHING, RESTART = "nothing to say", "it starts at step 0"
MISSING = {
    "run.json": "is not empty and holds no run",
    "data.fingerprint": NOTHING,
    "checkpoints": RESTART,
    "checkpoints/step-000000008.pt": "resumed .* at step 4",
    "metrics.jsonl": NOTHING,
    "tensorboard": NOTHING,
    "best.safetensors": "best.safetensors: is damaged or missing",
}


@pytest.mark.parametrize(("name", "message"), MISSING.items())
def test_every_missing_file_of_a_stopped_run(
    whole: Path, stopped: Path, name: str, message: str
) -> None:
    """It ends with the weights that it would have had, and says what it lacks, or it is refused."""
    path = stopped / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    log = Log()
    if name == "run.json":
        with pytest.raises(UsageError, match=message):
            resume(stopped, log)
        return
    resume(stopped, log)
    if message != NOTHING:
        assert any(re.search(message, line) for line in log.lines), log.lines
    assert weights(stopped) == weights(whole)
    assert load_model(stopped).record.class_names == load_model(whole).record.class_names


@pytest.mark.parametrize("damage", ["missing", "empty", "flipped", "cut"])
@pytest.mark.parametrize("name", ["result.json", "best.safetensors", "last.safetensors"])
def test_a_finished_run_is_finished_again(
    whole: Path, tmp_path: Path, name: str, damage: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path, expected = run / name, read_sealed_json(whole / "result.json")
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        # Of weights in the length of the header, of a result in its first number.
        place = 7 if name.endswith(".safetensors") else data.index(b'"steps": ') + 9
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    else:
        path.write_bytes(b"" if damage == "empty" else data[:-20])
    log = Log()
    result = resume(run, log)
    if (name, damage) != ("result.json", "missing"):  # an unfinished run, as after a kill
        assert log.lines[0] == (
            f"{path}: is damaged or missing; the run is finished again from its newest checkpoint"
        )
    assert expected is not None and result.items() >= (expected | {
        "best_epoch": result["best_epoch"], "best_top1": result["best_top1"]
    }).items()  # fmt: skip
    assert weights(run) == weights(whole) and load_model(run)
    assert any("this run is finished" in line for line in _lines_of_another_call(run))


def _lines_of_another_call(run: Path) -> list[str]:
    log = Log()
    resume(run, log)
    return log.lines


@pytest.mark.parametrize("change", [{"steps": "12"}, {"steps": None}, {"more": 1}])
def test_a_result_of_another_shape_is_damaged(
    whole: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    """Its checksum may be right: checksums are no signatures."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    write_sealed_json(
        run / "result.json", {**(read_sealed_json(run / "result.json") or {}), **change}
    )
    log = Log()
    assert resume(run, log)["steps"] == 12
    assert "is damaged or missing" in log.lines[0]


def test_bad_lines_of_metrics_are_left_out_and_counted(whole: Path, stopped: Path) -> None:
    file = stopped / "metrics.jsonl"
    good = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([good[0].replace(b"1", b"\xff", 1), *good[1:], b'{"half']))
    log = Log()
    resume(stopped, log)
    assert f"{file}: 2 damaged or unfinished lines are left out" in log.lines
    kept = set((whole / "metrics.jsonl").read_bytes().splitlines(keepends=True))
    assert set(file.read_bytes().splitlines(keepends=True)) == kept - {good[0]}


def test_damaged_settings_are_refused(stopped: Path) -> None:
    settings = (stopped / "run.json").read_text()
    for text in ("", settings[:-2], settings.replace("quick", "quack"), '{"seed": 0}'):
        (stopped / "run.json").write_text(text)
        with pytest.raises(CheckpointError, match="run.json: is damaged, or of an earlier version"):
            resume(stopped)


def test_a_checkpoint_of_another_run_is_refused(stopped: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    quick_run(other, quick(epochs=2, momentum=0.5), keep_checkpoints=True)
    name = "checkpoints/step-000000008.pt"
    shutil.copy(other / name, stopped / name)
    with pytest.raises(CheckpointError, match="is of a run with other settings"):
        resume(stopped)


class Command:
    """Unpickled by pickle, it would run a command."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (self._command,)


def hostile_pickle(path: Path, proof: Path) -> None:
    torch.save({"step": 8, "x": 1}, path)
    with zipfile.ZipFile(path) as archive:
        [name] = [entry for entry in archive.namelist() if entry.endswith("data.pkl")]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, pickle.dumps(Command(f"touch {proof}"), protocol=2))
        archive.writestr(name.replace("data.pkl", "version"), "3\n")


def test_a_hostile_checkpoint_runs_nothing(stopped: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.pt"
    hostile_pickle(plain, tmp_path / "attacked")
    newest = stopped / "checkpoints" / "step-000000008.pt"
    write_sealed(newest, lambda file: file.write(plain.read_bytes()))
    with pytest.raises(CheckpointError, match="is no checkpoint of a training; remove the file"):
        resume(stopped)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "state", [[], {}, {"run": 1}, {"step": 8, "module": {}}, {"step": "8", "module": 3}]
)
def test_a_checkpoint_of_another_shape_is_refused(stopped: Path, state: object) -> None:
    whole_state = load_latest(stopped / "checkpoints")
    assert whole_state is not None
    if isinstance(state, dict):
        state = {"run": whole_state["run"]} | state
    newest = stopped / "checkpoints" / "step-000000008.pt"
    write_sealed(newest, lambda file: torch.save(state, file))
    with pytest.raises(CheckpointError, match="remove"):
        resume(stopped)


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_every_write_fails_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk at each write in turn: one error, and the next call ends as it would have."""
    recipe = quick(epochs=2, max_steps=4, batch_size=16)
    quick_run(tmp_path / "whole", recipe)
    errors: list[str] = []
    for number in itertools.count():
        run, calls = tmp_path / f"{call}{number}", itertools.count()
        with monkeypatch.context() as patch:
            fail_at(patch, call, number, calls)
            try:
                quick_run(run, recipe)
            except (SqueezeNetError, OSError) as error:
                errors.append(str(error))
        if next(calls) <= number:
            break  # there are no more writes
        quick_run(run, recipe)
        assert weights(run) == weights(tmp_path / "whole"), number
        assert not list(run.rglob("*.tmp")) and not (run / LOCK).exists()
        shutil.rmtree(run)
    assert len(errors) == number >= 8
    assert all("No space left" in error or "full" in error for error in errors), errors


def fail_at(patch: pytest.MonkeyPatch, call: str, number: int, calls: Iterator[int]) -> None:
    """Let the call of ``squeezenet.files`` with this number meet a full disk."""
    owner, name = {
        "fsync": (files.os, "fsync"), "replace": (Path, "replace"), "write": (files.os, "fdopen")
    }[call]  # fmt: skip
    real = getattr(owner, name)

    def maybe(*arguments: object, **options: object) -> object:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    patch.setattr(owner, name, maybe)
