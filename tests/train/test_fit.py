"""The loop: what it validates, saves, logs and counts, and when."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.errors import ImageError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.images.bad import BadImages
from squeezenet.images.decode import Pixels
from squeezenet.images.sets import ArrayImages
from squeezenet.model.network import build_module
from squeezenet.train.fit import Fit, FitOptions, FitResult
from squeezenet.train.losses import cross_entropy
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder
from squeezenet.train.schedule import learning_rate_factor
from tests.train.small import CPU, Log, bright_images, quick, quick_run

SPEC = dataclasses.replace(preset("squeezenet_tiny"), num_classes=2)


def fit(
    folder: Path, recipe: Recipe, images: ArrayImages | None = None, **more: Any
) -> tuple[FitResult, nn.Module]:
    """Run a job on 32 images of two classes."""
    torch.manual_seed(0)
    module = build_module(SPEC)
    run = RunFolder(folder)
    run.open({})
    images = images or bright_images(32)
    options = FitOptions(hardware=CPU, **more.pop("options", {}))
    job = Fit(
        module=module,
        recipe=recipe,
        preprocessing=default_preprocessing(SPEC),
        images=images,
        loss=cross_entropy(recipe, images),
        folder=run,
        options=options,
        **more,
    )
    return job.run(), module


def metrics(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_the_best_weights_are_the_latest_of_equals(tmp_path: Path) -> None:
    top1s = iter([50.0, 70.0, 70.0, 60.0])
    saved: list[tuple[str, bytes]] = []

    def validate(module: nn.Module) -> Evaluation:
        return Evaluation(top1=next(top1s), top5=99.0, images=10, skipped=0)

    def save(path: Path, module: nn.Module) -> None:
        weight = module.get_parameter("features.0.weight").detach().numpy().tobytes()
        saved.append((path.name, weight))

    result, module = fit(tmp_path, quick(), validate=validate, save_weights=save)
    assert (result.best_top1, result.best_epoch, result.last_top1) == (70.0, 3, 60.0)
    assert (result.steps, result.epochs) == (16, 4.0)
    assert [name for name, _ in saved] == [
        "best.safetensors", "best.safetensors", "best.safetensors", "last.safetensors",
    ]  # fmt: skip
    assert len({weight for _, weight in saved}) == 4
    assert module.get_parameter("features.0.weight").detach().numpy().tobytes() == saved[-1][1]
    lines = metrics(tmp_path, "val")
    assert [(line["epoch"], line["step"], line["top1"]) for line in lines] == [
        (1, 4, 50.0), (2, 8, 70.0), (3, 12, 70.0), (4, 16, 60.0),
    ]  # fmt: skip
    assert {line["top5"] for line in lines} == {99.0}


def test_the_average_is_what_counts(tmp_path: Path) -> None:
    seen: list[bool] = []

    def validate(module: nn.Module) -> Evaluation:
        seen.append(module.training)
        return Evaluation(top1=50.0, top5=99.0, images=10, skipped=0)

    ends = []
    for decay in (0.0, 0.9):
        _, module = fit(tmp_path / str(decay), quick(ema_decay=decay), validate=validate)
        ends.append(module.get_parameter("features.0.weight").detach().clone())
    assert not torch.equal(*ends)
    assert seen == [True] * 4 + [False] * 4  # the module in training, and the average


def test_without_validation(tmp_path: Path) -> None:
    result, _ = fit(tmp_path, quick(epochs=1))
    assert (result.best_top1, result.best_epoch, result.last_top1) == (-1.0, 0, -1.0)
    assert metrics(tmp_path, "val") == []


def test_short_runs_have_ten_lines_of_metrics_at_least(tmp_path: Path) -> None:
    fit(tmp_path, quick(max_steps=27))
    assert [line["step"] for line in metrics(tmp_path, "train")] == [*range(2, 27, 2), 27]
    fit(tmp_path / "b", quick(max_steps=3))
    assert [line["step"] for line in metrics(tmp_path / "b", "train")] == [1, 2, 3]


def test_learning_rates_and_epochs_are_logged_every_20_steps(tmp_path: Path) -> None:
    recipe = quick(max_steps=210)
    fit(tmp_path, recipe)
    lines = metrics(tmp_path, "train")
    steps = [*range(20, 210, 20), 210]
    assert [(line["step"], line["epoch"]) for line in lines] == [(s, s / 4) for s in steps]
    for line in lines:
        factor = learning_rate_factor(recipe, int(line["step"]) - 1, 210, 4)
        assert line["learning_rate"] == pytest.approx(0.02 * factor)
        assert 0 < line["loss"] < 2


def test_progress(tmp_path: Path) -> None:
    log = Log()

    def validate(module: nn.Module) -> Evaluation:
        return Evaluation(top1=61.26, top5=99.0, images=10, skipped=0)

    fit(tmp_path, quick(epochs=2), validate=validate, options={"progress": log})
    task = log.tasks["train"]
    assert (task.first, task.total, task.done) == (0, 64, 64)
    assert task.notes[0].startswith("epoch 0.2/2 loss ") and "val" not in task.notes[3]
    assert task.notes[4].startswith("epoch 1.2/2 loss ") and task.notes[4].endswith(" val 61.3%")


def test_a_set_smaller_than_a_batch_is_one_step_per_epoch(tmp_path: Path) -> None:
    log = Log()
    result, _ = fit(tmp_path, quick(epochs=3), bright_images(5), options={"progress": log})
    assert result.steps == 3
    assert (log.tasks["train"].total, log.tasks["train"].done) == (15, 15)


def test_what_must_hold_is_restored_after_each_step(tmp_path: Path) -> None:
    calls: list[bool] = []
    fit(tmp_path, quick(epochs=1), after_step=lambda m: calls.append(m.training))
    assert calls == [True] * 4


class Broken(ArrayImages):
    """Images of which every other cannot be read."""

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        if index % 2:
            raise ImageError(f"image {index} is broken")
        return super().pixels(index)


def test_a_step_without_images_changes_nothing(tmp_path: Path) -> None:
    images = bright_images(8)
    broken = Broken(
        pixels_NHWC=images.pixels_NHWC, labels=np.zeros(8, np.int64), class_names=("c0", "c1"),
        title="broken",
    )  # fmt: skip
    bad, log, steps = BadImages(), Log(), []
    recipe = quick(batch_size=1, max_steps=40, balance=False)
    fit(tmp_path, recipe, broken, after_step=steps.append, options={"bad": bad, "progress": log})
    assert bad.count == 4 and len(steps) == 20
    assert sum("loss nan" in note for note in log.tasks["train"].notes) == 20
    assert all(math.isfinite(line["loss"]) for line in metrics(tmp_path, "train"))


def clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let every look at the clock take so many seconds."""
    times = itertools.count(0.0, seconds)
    monkeypatch.setattr("squeezenet.train.fit.time.monotonic", lambda: next(times))


def test_time_is_counted_over_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Per step: its end, the estimate, and whether a checkpoint is due. So 3 s after each.
    clock(monkeypatch, 1.0)
    whole, _ = fit(tmp_path / "whole", quick(epochs=2), options={"checkpoint_seconds": 1e9})
    assert whole.seconds == 22.0  # the end of step 8: 1 + 3 x 7
    stop = Log({4: lambda: signal.raise_signal(signal.SIGINT)})
    with pytest.raises(Exception, match="stopped at step 4 of 8"):
        fit(tmp_path / "stopped", quick(epochs=2), options={"progress": stop})
    resumed, _ = fit(tmp_path / "stopped", quick(epochs=2))
    assert resumed.seconds == 10.0 + 10.0


def test_the_time_left_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 1.0)
    log = Log()
    fit(tmp_path / "a", quick(epochs=10), options={"progress": log, "checkpoint_seconds": 1e9})
    assert log.lines == ["10 epochs of 32 images: about 1 minute left"]  # 20 steps of 3 s
    fit(tmp_path / "b", quick(epochs=9), options={"progress": log, "checkpoint_seconds": 1e9})
    assert len(log.lines) == 1  # under a minute is not worth a line


def test_checkpoints_are_written_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 1.0)
    options = {"checkpoint_seconds": 6.0, "keep_checkpoints": True}
    fit(tmp_path, quick(max_steps=7, batch_size=2), options=options)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step-{step:09d}.pt" for step in (2, 4, 6, 7)]


def test_a_signal_at_the_last_step_is_no_interruption(tmp_path: Path) -> None:
    log = Log({4: lambda: signal.raise_signal(signal.SIGTERM)})
    result, _ = fit(tmp_path, quick(epochs=1), options={"progress": log})
    assert result.steps == 4


def test_the_seed_decides_and_steps_differ(tmp_path: Path) -> None:
    """Dropout and augmentation are drawn anew for every step and seed."""
    ends = {}
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        _, module = fit(tmp_path / name, quick(epochs=1), seed=seed)
        ends[name] = module.get_parameter("classifier.1.weight").detach().clone()
    assert torch.equal(ends["a"], ends["again"]) and not torch.equal(ends["a"], ends["b"])
    drawn: list[float] = []
    recipe = quick(max_steps=3)
    fit(tmp_path / "c", recipe, after_step=lambda module: drawn.append(float(torch.rand(()))))
    assert len(set(drawn)) == 3


def test_runs_of_all_options_agree(tmp_path: Path) -> None:
    """Where it runs and what it keeps does not change the weights."""
    ends = set()
    often = {"checkpoint_seconds": 0.0, "keep_checkpoints": True}
    for name, options in (("a", {}), ("b", often), ("c", {"workers": None})):
        quick_run(tmp_path / name, quick(epochs=1), **options)
        ends.add((tmp_path / name / "last.safetensors").read_bytes())
    assert len(ends) == 1
