"""An interrupted compression goes on from what is whole, and removes only what is its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from squeezenet.compress import run as compress_run
from squeezenet.compress.deep_compression import job as deep
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.rate_distortion.settings import EFFORT_PRESETS, RateDistortionSettings
from squeezenet.compress.run import compress_model
from squeezenet.compress.work_folder import open_stage, read_densities, remove_work
from squeezenet.errors import CheckpointError, InterruptedRunError, UsageError
from squeezenet.folder_lock import FolderLock
from squeezenet.model.loaded import LoadedModel
from squeezenet.sealed_files import write_sealed, write_sealed_json
from squeezenet.train.checkpoint import newest_step, save_checkpoint
from squeezenet.train.fit import FitOptions
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run_folder import RunFolder
from tests.compress.conftest import OPTIONS, digit_images
from tests.compress.rate_distortion.test_job import brief
from tests.train.small import Log

DEEP = DeepCompressionSettings(bits=4, prune_epochs=1, share_epochs=1, scan_budget=5.0)
RD = RateDistortionSettings(effort="medium")


def compress(
    model: LoadedModel, out: Path, settings: compress_run.Settings, log: Log | None = None
) -> bytes:
    options = FitOptions(hardware=OPTIONS.hardware, progress=log)
    recipe = recipe_named("digits")
    images = digit_images(model, labelled=isinstance(settings, DeepCompressionSettings))
    compress_model(model, images, out, settings, recipe, options=options)
    return out.read_bytes()


def stop_before_the_file(
    model: LoadedModel, out: Path, settings: compress_run.Settings, patch: pytest.MonkeyPatch
) -> None:
    """Do all the work, and be interrupted before the file is encoded."""

    def stopped(*arguments: object, **options: object) -> None:
        raise InterruptedRunError("stopped", signal.SIGTERM)

    with patch.context() as inner:
        inner.setattr(compress_run, "_encode_measured", stopped)
        with pytest.raises(InterruptedRunError):
            compress(model, out, settings)


@pytest.fixture(params=["rd", "deep-compression"])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(deep, "SCAN_IMAGES", 50)
    monkeypatch.setattr(deep, "MIN_STEPS", {"prune": 2, "share": 2})
    monkeypatch.setitem(EFFORT_PRESETS, "medium", brief(correction_passes=1, training_steps=8))
    return RD if request.param == "rd" else DEEP


def test_every_damaged_work_file_is_computed_again(
    model: LoadedModel,
    tmp_path: Path,
    settings: compress_run.Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flipped, cut, empty or missing, each file in turn: the same bytes, and one line for each."""
    out, rng = tmp_path / "x.sqz", random.Random(0)
    work, kept = tmp_path / "x.sqz.work", tmp_path / "kept"
    stop_before_the_file(model, out, settings, monkeypatch)
    work.rename(kept)
    shutil.copytree(kept, work)
    expected = compress(model, out, settings)
    assert not work.exists()
    files = sorted(
        path.relative_to(kept)
        for path in kept.rglob("*")
        if (path.is_file() and path.suffix in (".npz", ".json", ".pt") and path.parent != kept)
        or (path.parent == kept and path.suffix in (".npz", ".json") and path.name != "run.json")
    )  # fmt: skip
    # Of several trainings, the first.
    files = [file for file in files if "2" not in file.parts[0] and "3" not in file.parts[0]]
    assert len(files) >= 4
    for file in files:
        shutil.copytree(kept, work)
        data = bytearray((kept / file).read_bytes())
        kind = rng.choice(["flipped", "cut", "empty", "missing"])
        if kind == "flipped":
            place = data.index(b":") + 3 if file.suffix == ".json" else rng.randrange(len(data))
            data[place] ^= 1
        (work / file).write_bytes(data[:-9] if kind == "cut" else b"" if kind == "empty" else data)
        if kind == "missing":
            (work / file).unlink()
        log = Log()
        assert compress(model, out, settings, log) == expected, (file, kind)
        damaged = [line for line in log.lines if "is damaged" in line]
        said = kind != "missing" or file.name == "run.json"
        assert len(damaged) == said, (file, kind, log.lines)
        assert not work.exists()


def test_a_work_folder_is_locked_and_knows_its_images(
    model: LoadedModel,
    tmp_path: Path,
    settings: compress_run.Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, work = tmp_path / "x.sqz", tmp_path / "x.sqz.work"
    stop_before_the_file(model, out, settings, monkeypatch)
    names = sorted(path.name for path in work.iterdir())
    with (
        FolderLock(work),
        pytest.raises(CheckpointError, match=f"another process .pid {os.getpid()} "),
    ):
        compress(model, out, settings)
    assert sorted(path.name for path in work.iterdir()) == names
    images = digit_images(model, labelled=isinstance(settings, DeepCompressionSettings))
    images.retrain.pixels_NHWC[3, 0, 0, 0] ^= 1
    with pytest.raises(CheckpointError, match="1 of .* images have changed since the run began"):
        compress_model(model, images, out, settings, recipe_named("digits"), options=OPTIONS)
    assert not out.exists()


def test_files_of_others_in_a_work_folder_stay(
    model: LoadedModel,
    tmp_path: Path,
    settings: compress_run.Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, work = tmp_path / "x.sqz", tmp_path / "x.sqz.work"
    stop_before_the_file(model, out, settings, monkeypatch)
    (work / "notes.txt").write_text("mine")
    log = Log()
    compress(model, out, settings, log)
    assert [path.name for path in work.rglob("*")] == ["notes.txt"]
    assert f"{work}: is kept, since it holds files that squeezenet did not write" in log.lines
    with pytest.raises(UsageError, match="x.sqz.work: is not empty and holds no run"):
        compress(model, out, settings)
    assert (work / "notes.txt").read_text() == "mine"


def test_a_work_folder_of_somebody_else_is_not_touched(
    model: LoadedModel, tmp_path: Path, settings: compress_run.Settings
) -> None:
    work = tmp_path / "x.sqz.work"
    work.mkdir()
    (work / ".notes.tmp").write_text("mine")
    before = work.stat().st_mtime_ns
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        compress(model, tmp_path / "x.sqz", settings)
    assert work.stat().st_mtime_ns == before and (work / ".notes.tmp").read_text() == "mine"


def test_a_damaged_stage_begins_again(tmp_path: Path) -> None:
    log, path = Log(), tmp_path / "prune"
    folder = open_stage(path, {"stage": "prune"}, log)
    save_checkpoint(folder.checkpoints, 1, {"step": 1})
    open_stage(path, {"stage": "prune"}, log)
    assert (path / "checkpoints" / "step-000000001.pt").is_file() and not log.lines
    for damage in ("run.json", "checkpoints/step-000000001.pt"):
        (path / damage).write_bytes(b"{}")
        folder = open_stage(path, {"stage": "prune"}, log)
        assert log.lines.pop() == f"{path}: is damaged; this stage is computed again"
        assert not log.lines and not list(folder.checkpoints.glob("*"))
        save_checkpoint(folder.checkpoints, 1, {"step": 1})
    (path / "run.json").write_bytes(b"")
    (path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is not empty and holds no run"):
        open_stage(path, {"stage": "prune"}, log)


def test_a_stage_is_no_link(tmp_path: Path) -> None:
    """A work folder from somebody else could have it point to any run, which would be removed."""
    other, work = RunFolder(tmp_path / "other"), RunFolder(tmp_path / "x.sqz.work")
    other.open({"seed": 0})
    save_checkpoint(other.checkpoints, 1, {"step": 1})
    (other.path / "run.json").write_text("{}")
    work.open({"seed": 0})
    (work.path / "prune").symlink_to(other.path)
    with pytest.raises(CheckpointError, match="prune: is a symbolic link"):
        open_stage(work.path / "prune", {"stage": "prune"}, Log())
    remove_work(work, Log())
    assert (other.path / "run.json").is_file() and newest_step(other.checkpoints) == 1


def test_densities(tmp_path: Path) -> None:
    path, log = tmp_path / "density.json", Log()
    assert read_densities(path, log) == {} and not log.lines
    write_sealed_json(path, {"density": 0.25})
    assert read_densities(path, log) == {"density": 0.25} and not log.lines
    for content in (
        {"density": "0.25"},
        {"density": None},
        {"density": 5.0},
        {"density": 0.0},
        {"density": float("nan")},
        {"density": -1.0},
    ):
        write_sealed_json(path, content)
        assert read_densities(path, log) == {}
        assert log.lines.pop() == f"{path}: is damaged; it is computed again"
    write_sealed(path, lambda file: file.write(b"0.25"))
    assert read_densities(path, log) == {} and len(log.lines) == 1


def test_a_run_folder_is_damaged_or_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not run.is_damaged
    run.path.mkdir()
    assert not run.is_damaged
    run.open({"seed": 0})
    assert not run.is_damaged
    for step in (1, 2):
        save_checkpoint(run.checkpoints, step, {"step": step})
    (run.checkpoints / "step-000000002.pt").write_bytes(b"")
    assert not run.is_damaged
    (run.checkpoints / "step-000000001.pt").write_bytes(b"")
    assert run.is_damaged
