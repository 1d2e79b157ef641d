"""The small parts of training: schedule, averages, recipes, checkpoints, run folders."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from squeezenet.errors import CheckpointError, SpecError, UnknownNameError, UsageError
from squeezenet.train.checkpoint import checkpoint_paths, load_latest, save_checkpoint
from squeezenet.train.ema import MovingAverage
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.metrics import MetricsLog
from squeezenet.train.recipe import RECIPES, Recipe, recipe_named
from squeezenet.train.run_folder import RunFolder
from squeezenet.train.schedule import learning_rate_factor


def test_schedule() -> None:
    recipe = Recipe(name="x", learning_rate=1.0, warmup_epochs=1.0)
    rates = [learning_rate_factor(recipe, step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11) and rates[10] == 1.0 and 0 < rates[99] < 0.01
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    linear = dataclasses.replace(recipe, schedule="linear", warmup_epochs=0.0)
    assert learning_rate_factor(linear, 50, 100, 10) == pytest.approx(0.5)
    constant = dataclasses.replace(recipe, schedule="constant")
    assert learning_rate_factor(constant, 99, 100, 10) == 1.0


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
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"momentum": 1.0}, "momentum is 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
    ],
)
def test_recipes_are_checked(change: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Recipe(name="x", **change)
    with pytest.raises(UnknownNameError, match="expected one of default"):
        recipe_named("nothing")
    assert set(RECIPES) == {recipe.name for recipe in RECIPES.values()}


def test_moving_average() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(module, 0.9)
    start = average.module[0].weight.clone()
    with torch.no_grad():
        module[0].weight.add_(1.0)
    average.update(module, 1000)
    torch.testing.assert_close(average.module[0].weight, start + 0.1)
    average.update(module, 0)  # at the start, the decay is 1/10
    torch.testing.assert_close(average.module[0].weight, start + 0.1 + 0.9 * 0.9)
    assert not average.module.training


def state_of(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_checkpoints_keep_two_and_survive_damage(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert load_latest(folder) is None
    for step in (1, 2, 3):
        save_checkpoint(folder, step, state_of(step))
    assert [path.name for path in checkpoint_paths(folder)] == [
        "step-000000002.pt",
        "step-000000003.pt",
    ]
    newest = checkpoint_paths(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    (folder / ".step-000000004.pt.abc.tmp").write_bytes(b"half")  # killed while writing
    state = load_latest(folder)
    assert state is not None and state["step"] == 2
    checkpoint_paths(folder)[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints can be read"):
        load_latest(folder)


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
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        folder.open(settings)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        RunFolder(tmp_path / "other").open(settings)
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(tmp_path / "other" / "thesis.txt").open(settings)


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


def test_hardware() -> None:
    assert choose_hardware("cpu", "bfloat16").bfloat16
    assert not choose_hardware("cpu", "float32").bfloat16
    with pytest.raises(UsageError, match="--device nonsense: not usable here"):
        choose_hardware("nonsense")


def test_a_small_set_gets_smaller_batches() -> None:
    recipe = Recipe(name="x", batch_size=128, learning_rate=0.1, matrix_rate=0.04)
    assert recipe.for_set_of(2048) == recipe
    small = recipe.for_set_of(2047)
    assert (small.batch_size, small.learning_rate, small.matrix_rate) == (64, 0.05, 0.02)
    assert recipe.for_set_of(1).batch_size == 16
    assert dataclasses.replace(recipe, batch_size=20).for_set_of(1).batch_size == 20
