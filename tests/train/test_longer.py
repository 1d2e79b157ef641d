"""Runs that are trained longer than first asked, and the checkpoints that this needs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from squeezenet.errors import CheckpointError, InterruptedRunError
from squeezenet.sealed_files import read_sealed_json
from squeezenet.train.checkpoint import checkpoint_paths
from squeezenet.train.schedule import learning_rate_factor
from tests.train.small import Log, quick, quick_run


def checkpoints(folder: Path) -> list[int]:
    """The steps of the checkpoints that a run folder has."""
    paths = checkpoint_paths(folder / "checkpoints")
    return [int(path.stem.removeprefix("step-")) for path in paths]


def metrics(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def weights(folder: Path) -> bytes:
    return (folder / "last.safetensors").read_bytes()


def stop_after(num_steps: int, folder: Path, **changes: object) -> None:
    """Train, and send a signal after ``num_steps`` steps of this call."""
    log = Log({num_steps: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(InterruptedRunError):
        quick_run(folder, quick(**changes), progress=log)


def test_a_finished_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = quick_run(run, quick(epochs=2))
    assert (first["steps"], first["epochs"]) == (8, 2.0)
    assert checkpoints(run) == [8]
    log = Log()
    longer = quick_run(run, quick(epochs=5), progress=log)
    assert (longer["steps"], longer["epochs"]) == (20, 5.0)
    assert any("the run goes on to 20 steps" in line for line in log.lines)
    assert any("resumed" in line and "at step 8" in line for line in log.lines)
    assert (log.tasks["train"].first, log.tasks["train"].done) == (8 * 8, 20 * 8)
    assert json.loads((run / "run.json").read_text())["recipe"]["epochs"] == 5
    assert read_sealed_json(run / "result.json") == longer
    assert [line["epoch"] for line in metrics(run, "val")] == [1, 2, 3, 4, 5]
    assert longer["best_top1"] == max(line["top1"] for line in metrics(run, "val"))
    assert checkpoints(run) == [20]


def test_the_learning_rate_is_that_of_the_new_length(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick_run(run, quick(max_steps=20))
    quick_run(run, quick(max_steps=60))
    rates = {line["step"]: line["learning_rate"] for line in metrics(run, "train")}
    assert list(rates) == [*range(2, 21, 2), *range(24, 61, 6)]
    for step, total in ((20, 20), (42, 60), (60, 60)):
        factor = learning_rate_factor(quick(), step - 1, total, 4)
        assert rates[step] == pytest.approx(0.02 * factor)
    assert rates[42] > 5 * rates[20]  # it has risen again


def test_the_same_command_does_nothing_more(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = quick_run(run, quick(epochs=1))
    before = weights(run), (run / "run.json").read_bytes(), checkpoints(run)
    log = Log()
    assert quick_run(run, quick(epochs=1), progress=log) == result
    assert log.lines == [f"{run}: this run is finished; a larger --epochs trains it longer"]
    assert not log.tasks
    assert (weights(run), (run / "run.json").read_bytes(), checkpoints(run)) == before


def test_a_longer_run_that_is_interrupted_ends_bit_identical(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for run in (whole, stopped):
        quick_run(run, quick(epochs=2))
    quick_run(whole, quick(epochs=4))
    stop_after(3, stopped, epochs=4)
    assert checkpoints(stopped) == [8, 11]
    assert not (stopped / "result.json").exists()
    quick_run(stopped, quick(epochs=4))
    assert weights(stopped) == weights(whole)
    assert metrics(stopped, "val") == metrics(whole, "val")


def test_an_unfinished_run_takes_a_longer_or_shorter_length(tmp_path: Path) -> None:
    run = tmp_path / "run"
    stop_after(6, run, epochs=4)
    assert quick_run(run, quick(epochs=3))["steps"] == 12
    stop_after(2, run, epochs=5)
    assert quick_run(run, quick(epochs=6))["steps"] == 24


def test_fewer_steps_than_done_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick_run(run, quick(epochs=3))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    message = r"run: 12 steps are done and 8 were asked for; raise --epochs or --max-steps"
    with pytest.raises(CheckpointError, match=message):
        quick_run(run, quick(epochs=2))
    with pytest.raises(CheckpointError, match="12 steps are done and 11 were"):
        quick_run(run, quick(max_steps=11))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert quick_run(run, quick(max_steps=12))["steps"] == 12


def test_another_setting_is_refused_as_before(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick_run(run, quick(epochs=1))
    settings = (run / "run.json").read_bytes()
    with pytest.raises(CheckpointError, match="recipe.momentum 0.9, this one has 0.5"):
        quick_run(run, quick(epochs=2, momentum=0.5))
    assert (run / "run.json").read_bytes() == settings and (run / "result.json").is_file()


def test_a_finished_run_without_a_checkpoint_cannot_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick_run(run, quick(epochs=1))
    for path in checkpoint_paths(run / "checkpoints"):
        path.unlink()
    with pytest.raises(CheckpointError, match="its checkpoint is gone"):
        quick_run(run, quick(epochs=2))
    assert (run / "result.json").is_file()


def test_a_run_that_ends_within_an_epoch_goes_on_from_its_last_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick_run(run, quick(max_steps=6))
    assert checkpoints(run) == [6]
    assert [line["step"] for line in metrics(run, "val")] == [4, 6]
    quick_run(run, quick(max_steps=8))
    assert [line["step"] for line in metrics(run, "val")] == [4, 6, 8]


def test_a_kill_while_the_length_changes_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the result is gone and before the settings are new, the run is as unfinished."""
    run = tmp_path / "run"
    quick_run(run, quick(epochs=1))
    with monkeypatch.context() as patch:

        def killed(self: object, settings: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("squeezenet.train.run_folder.RunFolder._write_settings", killed)
        with pytest.raises(KeyboardInterrupt):
            quick_run(run, quick(epochs=2))
    assert quick_run(run, quick(epochs=1))["steps"] == 4
    assert quick_run(run, quick(epochs=2))["steps"] == 8


def test_checkpoints_while_training_and_after_it(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    run = tmp_path / "run"
    log = Log({step: lambda: seen.append(checkpoints(run)) for step in range(1, 13)})
    quick_run(run, quick(epochs=3), progress=log, checkpoint_seconds=1000.0)
    # The callback of a step comes before the checkpoint after it.
    assert seen == [[]] * 4 + [[4]] * 4 + [[4, 8]] * 4
    assert checkpoints(run) == [12]
    every = tmp_path / "every"
    quick_run(every, quick(epochs=1), checkpoint_seconds=0.0, keep_checkpoints=True)
    assert checkpoints(every) == [1, 2, 3, 4]
    quick_run(every, quick(epochs=2), checkpoint_seconds=1000.0, keep_checkpoints=True)
    assert checkpoints(every) == [1, 2, 3, 4, 8]
    quick_run(every, quick(epochs=3))
    assert checkpoints(every) == [12]
