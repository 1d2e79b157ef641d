"""The small parts of training: schedule, averages, recipes, checkpoints, run folders."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from squeezenet.arch.serialization import to_plain
from squeezenet.errors import CheckpointError, SpecError, UnknownNameError, UsageError
from squeezenet.train.checkpoint import (
    checkpoint_paths,
    load_latest,
    newest_step,
    remove_old_checkpoints,
    save_checkpoint,
)
from squeezenet.train.ema import MovingAverage
from squeezenet.train.fit import Fit, FitOptions, FitResult
from squeezenet.train.hardware import Hardware, choose_hardware, keep_freed_memory
from squeezenet.train.metrics import MetricsLog
from squeezenet.train.plan import TrainingPlan, TrainOptions
from squeezenet.train.recipe import MIN_BATCH_SIZE, RECIPES, Recipe, recipe_named
from squeezenet.train.run_folder import RunFolder
from squeezenet.train.schedule import learning_rate_factor
from squeezenet.train.start import DefaultStart, NetworkChoice
from squeezenet.train.stop import StopSignals


def test_schedule() -> None:
    recipe = Recipe(name="x", learning_rate=1.0, warmup_epochs=1.0)
    factors = [learning_rate_factor(recipe, step, 100, 10) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert factors[11:] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * (step - 10) / 90)) for step in range(11, 100)]
    )
    linear = dataclasses.replace(recipe, schedule="linear")
    assert learning_rate_factor(linear, 10, 100, 10) == 1.0
    assert learning_rate_factor(linear, 40, 100, 10) == pytest.approx(2 / 3)
    assert learning_rate_factor(linear, 99, 100, 10) == pytest.approx(1 / 90)
    constant = dataclasses.replace(recipe, schedule="constant")
    assert learning_rate_factor(constant, 4, 100, 10) == pytest.approx(5 / 11)
    assert learning_rate_factor(constant, 99, 100, 10) == 1.0


def test_the_warm_up_takes_a_quarter_at_most() -> None:
    recipe = Recipe(name="x", warmup_epochs=2.0)
    # 20 steps of warm-up are more than 40 // 4.
    assert learning_rate_factor(recipe, 9, 40, 10) == pytest.approx(10 / 11)
    assert learning_rate_factor(recipe, 10, 40, 10) == 1.0
    assert learning_rate_factor(recipe, 0, 1, 10) == 1.0  # no warm-up in a single step
    # A fraction of an epoch, rounded: 3.5 becomes 4 steps.
    part = Recipe(name="x", warmup_epochs=0.5)
    assert learning_rate_factor(part, 3, 100, 7) == pytest.approx(4 / 5)
    assert learning_rate_factor(part, 4, 100, 7) == 1.0


def test_another_rate_changes_muons_too() -> None:
    small = recipe_named("small").at_rate(0.05)
    assert (small.learning_rate, small.matrix_rate) == (0.05, pytest.approx(0.025))


def test_the_papers_protocol() -> None:
    paper = recipe_named("paper")
    assert (paper.batch_size, paper.max_steps, paper.learning_rate) == (512, 170_000, 0.04)
    assert (paper.weight_decay, paper.schedule, paper.init) == (2e-4, "linear", "xavier")
    assert learning_rate_factor(paper, 85_000, 170_000, 2500) == pytest.approx(0.5)
    assert not paper.augmentation.flip and paper.caffe and not paper.batch_norm


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"max_steps": 0}, "max_steps is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"micro_batch": 0}, "micro_batch is 0, expected at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"matrix_rate": 0.0}, "matrix_rate is 0.0, expected above 0"),
        ({"matrix_rate": -1.0}, "matrix_rate is -1.0, expected above 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected above 0"),
        ({"momentum": 1.0}, "momentum is 1.0, expected 0 <= momentum < 1"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"coarse_share": 1.0}, "coarse_share is 1.0"),
        ({"coarse_scale": 0.0}, "coarse_scale is 0.0, expected"),
        ({"coarse_scale": 1.01}, "coarse_scale is 1.01, expected"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, expected at least 0"),
        ({"matrix_decay": -1.0}, "matrix_decay is -1.0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs is -1.0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
    ],
)
def test_recipes_are_checked(change: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=f"recipe x: {message}"):
        Recipe(name="x", **change)


def test_the_limits_of_recipes() -> None:
    least = Recipe(
        name="x", epochs=1, max_steps=1, batch_size=1, micro_batch=1, learning_rate=1e-9,
        matrix_rate=1e-9, momentum=0.0, label_smoothing=0.0, ema_decay=0.0, coarse_share=0.0,
        coarse_scale=1.0, weight_decay=0.0, matrix_decay=0.0, warmup_epochs=0.0, clip_norm=0.0,
    )  # fmt: skip
    assert least.total_steps(1) == 1 and least.at_rate(1.0).matrix_rate == pytest.approx(1.0)
    assert Recipe(name="x", coarse_scale=0.01, momentum=0.99).total_steps(128) == 60


@pytest.mark.parametrize(
    "kind",
    [DefaultStart, Fit, FitOptions, FitResult, Hardware, NetworkChoice, Recipe, TrainOptions,
     TrainingPlan],
)  # fmt: skip
def test_settings_are_frozen_and_by_keyword(kind: type) -> None:
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_recipes_by_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe 'nothing'; expected one of default"):
        recipe_named("nothing")
    assert set(RECIPES) == {recipe.name for recipe in RECIPES.values()}


def test_recipes_change_on_purpose_only() -> None:
    """Files of models name the recipe that trained them: its numbers are part of the record."""
    known = json.loads((Path(__file__).parent / "recipes.json").read_text("utf-8"))
    assert to_plain(RECIPES) == known


def test_the_length_of_a_training() -> None:
    recipe = Recipe(name="x", epochs=3, batch_size=10)
    assert recipe.total_steps(25) == 8 and recipe.total_steps(5) == 3
    assert dataclasses.replace(recipe, max_steps=7).total_steps(25) == 7


def test_moving_average() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(module, 0.9)
    start = average.module[0].weight.clone()
    with torch.no_grad():
        module[0].weight.add_(1.0)
        module[1].running_mean.add_(1.0)
        module[1].num_batches_tracked.add_(5)
    average.update(module, 1000)
    torch.testing.assert_close(average.module[0].weight, start + 0.1)
    torch.testing.assert_close(average.module[1].running_mean, torch.full((2,), 0.1))
    assert int(average.module[1].num_batches_tracked) == 5  # a counter is copied
    average.update(module, 0)  # the decay is 1/10
    torch.testing.assert_close(average.module[0].weight, start + 0.1 + 0.9 * 0.9)
    before = average.module[0].weight.clone()
    average.update(module, 8)  # the decay is 9/18
    torch.testing.assert_close(average.module[0].weight, (before + module[0].weight) / 2)
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert average.module[0].weight is not module[0].weight


def state_of(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_checkpoints_keep_two_and_survive_damage(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert load_latest(folder) is None
    assert newest_step(folder) == 0
    for step in (1, 2, 3):
        save_checkpoint(folder, step, state_of(step))
    assert [path.name for path in checkpoint_paths(folder)] == [
        "step-000000002.pt",
        "step-000000003.pt",
    ]
    assert newest_step(folder) == 3
    newest = checkpoint_paths(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    (folder / ".step-000000004.pt.abc.tmp").write_bytes(b"half")  # killed while writing
    state = load_latest(folder)
    assert state is not None and state["step"] == 2
    checkpoint_paths(folder)[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints can be read"):
        load_latest(folder)


def test_all_checkpoints_or_only_the_last(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path, step, state_of(step), keep=None)
    assert [int(path.stem[5:]) for path in checkpoint_paths(tmp_path)] == [1, 2, 3, 10]
    remove_old_checkpoints(tmp_path)
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["step-000000010.pt"]
    remove_old_checkpoints(tmp_path)
    assert newest_step(tmp_path) == 10


def test_a_checkpoint_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        def write(path: Path, write: object) -> None:
            raise error

        monkeypatch.setattr("squeezenet.train.checkpoint.write_sealed", write)

    fail(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(CheckpointError, match=r"\(the disk is full\); there is no earlier one;"):
        save_checkpoint(tmp_path, 1, state_of(1))
    monkeypatch.undo()
    save_checkpoint(tmp_path, 1, state_of(1))
    wrapped = RuntimeError("write failed\nin a C++ file")
    wrapped.__context__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    for error, reason in (
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (wrapped, "the disk is full"),
        (RuntimeError("write failed\nin a C++ file"), "write failed"),
        (OSError(errno.EACCES, "Permission denied"), ".*Permission denied"),
    ):
        fail(error)
        with pytest.raises(CheckpointError, match=rf"\({reason}\); step-000000001.pt is kept;"):
            save_checkpoint(tmp_path, 2, state_of(2))
    assert newest_step(tmp_path) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small file system, which only root has")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_loses_nothing(small_disk: Path) -> None:
    big = {"step": 1, "weights": torch.ones(25_000)}
    save_checkpoint(small_disk, 1, big)
    save_checkpoint(small_disk, 2, big | {"step": 2})
    (small_disk / "other").write_bytes(b"x" * 150_000)
    with pytest.raises(CheckpointError, match=r"disk is full\); step-000000002.pt is kept"):
        save_checkpoint(small_disk, 3, big | {"step": 3})
    assert sorted(p.name for p in small_disk.iterdir()) == [
        "other", "step-000000001.pt", "step-000000002.pt",
    ]  # fmt: skip
    state = load_latest(small_disk)
    assert state is not None and state["step"] == 2


def test_run_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    settings = {"spec": {"name": "squeezenet_tiny", "stem": 3}, "seed": 1}
    folder.open(settings)
    folder.open(settings)
    other = {"spec": {"name": "squeezenet1_1", "stem": 4}, "seed": 1}
    with pytest.raises(
        CheckpointError, match='spec.name "squeezenet_tiny", this one has "squeezenet1_1"'
    ):
        folder.open(other)
    with pytest.raises(CheckpointError, match="seed 1, this one has 2"):
        folder.open(settings | {"seed": 2})
    with pytest.raises(CheckpointError, match="extra null, this one has true"):
        folder.open(settings | {"extra": True})
    inner = {"name": "squeezenet_tiny", "stem": 3, "pools": 1}
    with pytest.raises(CheckpointError, match="spec.pools null, this one has 1"):
        folder.open({"spec": inner, "seed": 1})
    with pytest.raises(CheckpointError, match="spec.stem 3, this one has null"):
        folder.open({"spec": {"name": "squeezenet_tiny"}, "seed": 1})
    with pytest.raises(CheckpointError, match="seed 1, this one has null"):
        folder.open({"spec": settings["spec"]})
    long = {"spec": settings["spec"], "seed": "x" * 100}
    with pytest.raises(CheckpointError, match=f'seed 1, this one has "{"x" * 56}\\.\\.\\.;'):
        folder.open(long)
    assert folder.read_result() is None
    folder.write_result({"top1": 1.5})
    assert folder.read_result() == {"top1": 1.5}
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "run" / "run.json").write_text(text)
        with pytest.raises(CheckpointError, match="damaged"):
            folder.open(settings)


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    settings = {"seed": 1}
    (tmp_path / "other").mkdir()
    RunFolder(tmp_path / "other").open(settings)  # an empty folder will do
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="full: is not empty and holds no run"):
        RunFolder(tmp_path / "full").open(settings)
    with pytest.raises(UsageError, match="thesis.txt: is a file, expected a folder"):
        RunFolder(tmp_path / "full" / "thesis.txt").open(settings)
    with pytest.raises(CheckpointError, match="x: cannot be written"):
        RunFolder(tmp_path / "full" / "thesis.txt" / "x").open(settings)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.open({"seed": 1})
    folder.checkpoints.mkdir()
    leftovers = [
        tmp_path / ".run.json.abcd_123.squeezenet.tmp",
        folder.checkpoints / ".step-000000004.pt.abcd_123.squeezenet.tmp",
    ]
    mine = [tmp_path / ".notes.tmp", folder.checkpoints / ".swap.squeezenet.tmp"]
    for path in (*leftovers, *mine):
        path.write_bytes(b"half")
    folder.open({"seed": 1})
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in mine)


def test_metrics_of_a_resumed_run(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with MetricsLog(file, tmp_path / "tb", 0) as log:
        for step in (20, 40, 60):
            log.write("train", step, {"loss": 1.0})
    with file.open("a") as half:
        half.write('{"kind": "tr')
    with MetricsLog(file, tmp_path / "tb", 40) as log:
        log.write("train", 60, {"loss": 0.5})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(20, 1.0), (40, 1.0), (60, 0.5)]


def test_what_tensorboard_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            calls.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setattr("squeezenet.train.metrics.SummaryWriter", Writer)
    with MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tb", 40) as log:
        log.write("val", 60, {"top1": 0.5, "top5": 1.0})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
            "kind": "val", "step": 60, "top1": 0.5, "top5": 1.0, "crc32": "923b287f",
        }  # fmt: skip
    assert calls == [
        (str(tmp_path / "tb"), 41), ("val/top1", 0.5, 60), ("val/top5", 1.0, 60), "closed",
    ]  # fmt: skip
    assert log._file.closed


@pytest.mark.parametrize("first", [True, False])
def test_tensorboard_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], first: bool
) -> None:
    """Its thread keeps the error: it is raised once, names the folder, and prints nothing."""

    def write(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail() -> None:
        monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", write)

    def log_two() -> None:
        with MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tb", 0) as log:
            fail()
            for step in range(1, 3):
                log.write("train", step, {"loss": 1.0})

    hook = threading.excepthook
    if first:
        fail()
    with pytest.raises(OSError, match="No space left") as raised:
        log_two()
    assert raised.value.filename == str(tmp_path / "tb")
    assert threading.excepthook is hook
    assert capfd.readouterr() == ("", "")


def test_metrics_of_a_run_that_starts_again(tmp_path: Path) -> None:
    """Without a checkpoint nothing that an earlier process wrote is of this run."""
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"kind": "train", "step": 0}\n{"kind": "train", "step": 20}\n{"x": 1}\n')
    with MetricsLog(file, tmp_path / "tb", 0):
        pass
    assert file.read_text() == ""


def test_stop_signals() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        assert stop.received is None
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)  # again: still only noted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGTERM
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside: list[object] = []

    def work() -> None:
        with StopSignals():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]


def test_hardware() -> None:
    assert choose_hardware("cpu", "bfloat16").bfloat16
    assert not choose_hardware("cpu", "float32").bfloat16
    for name in ("nonsense", "meta"):
        with pytest.raises(UsageError, match=f"--device {name}: not usable here .*; try --device"):
            choose_hardware(name)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    tried = []
    monkeypatch.setattr(torch, "empty", lambda n, device: tried.append(device.type))
    assert choose_hardware().device.type == chosen and tried == [chosen]
    assert choose_hardware().bfloat16 or chosen != "cuda"
    assert not choose_hardware(precision="float32").bfloat16
    if chosen == "mps":
        assert not choose_hardware().bfloat16


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16", "avx2"])
def test_bfloat16_where_the_cpu_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    assert choose_hardware("cpu").bfloat16 == (capability != "avx2")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not choose_hardware("cpu").bfloat16


def test_freed_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Libc:
        def __init__(self, name: None) -> None:
            self.mallopt = lambda number, value: calls.append((number, value))

    monkeypatch.setattr("squeezenet.train.hardware.ctypes.CDLL", Libc)
    keep_freed_memory()
    assert calls == [(-3, 1 << 30), (-1, 1 << 30)]  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    monkeypatch.setattr("squeezenet.train.hardware.ctypes.CDLL", lambda name: object())
    keep_freed_memory()  # no glibc


def test_a_small_set_gets_smaller_batches() -> None:
    recipe = Recipe(name="x", batch_size=128, learning_rate=0.1, matrix_rate=0.04)
    assert recipe.for_set_of(2048) == recipe
    small = recipe.for_set_of(2047)
    assert (small.batch_size, small.learning_rate, small.matrix_rate) == (64, 0.05, 0.02)
    assert recipe.for_set_of(1).batch_size == MIN_BATCH_SIZE == 16
    assert dataclasses.replace(recipe, batch_size=20).for_set_of(1).batch_size == 20
