"""Whole runs on digits: they learn, they stop cleanly, and they go on bit for bit."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.arch.preprocessing import caffe_preprocessing
from squeezenet.arch.presets import caffe_squeezenet1_0
from squeezenet.cli.app import run as cli
from squeezenet.data.sources import open_training_data
from squeezenet.errors import CheckpointError
from squeezenet.model.load import load_model
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import Hardware, choose_hardware
from squeezenet.train.recipe import Recipe, default_recipe, recipe_named, recorded_augmentation
from squeezenet.train.run import train_run
from squeezenet.train.start import (
    NetworkChoice,
    new_model,
    open_pretrained,
    start_from,
    suggest_input_size,
)

GOLDEN_LOSSES = [2.123, 1.383, 0.787, 0.550, 0.579, 0.511]
CPU = Hardware(device=torch.device("cpu"), bfloat16=False)


def train_digits(
    folder: Path, recipe: Recipe, *, seed: int = 0, batch_norm: bool = True
) -> dict[str, object]:
    data = open_training_data("digits")
    choice = NetworkChoice(arch="squeezenet_tiny", batch_norm=batch_norm)
    model = new_model(choice, recipe, data.class_names, seed)
    return train_run(model, data, recipe, folder, seed=seed, options=FitOptions(hardware=CPU))


def short(**changes: object) -> Recipe:
    return dataclasses.replace(recipe_named("digits"), **changes)


def weights_of(folder: Path, name: str = "last.safetensors") -> bytes:
    return (folder / name).read_bytes()


def metrics_of(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def test_a_run_and_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = train_digits(folder, short(epochs=12))
    assert result["best_top1"] > 90
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "result.json", "metrics.jsonl", "tensorboard", "checkpoints",
        "best.safetensors", "last.safetensors",
    }  # fmt: skip
    assert [line["epoch"] for line in metrics_of(folder, "val")] == list(range(1, 13))
    losses = [line["loss"] for line in metrics_of(folder, "train")]
    # A golden curve, with room for other processors' arithmetic: every 20 steps of seed 0.
    assert losses[:6] == pytest.approx(GOLDEN_LOSSES, rel=0.1)
    model = load_model(folder)
    assert model.record.class_names == tuple("0123456789")
    provenance = model.record.provenance
    assert (provenance["method"], provenance["recipe"], provenance["seed"]) == (
        "trained", "digits", 0,
    )  # fmt: skip
    assert not recorded_augmentation(model.record).flip
    # A finished run is not run again.
    before = (folder / "last.safetensors").stat().st_mtime_ns
    assert train_digits(folder, short(epochs=12)) == result
    assert (folder / "last.safetensors").stat().st_mtime_ns == before
    with pytest.raises(CheckpointError, match="recipe.batch_size 64, this one has 32"):
        train_digits(folder, short(epochs=12, batch_size=32))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_both_forms_learn(tmp_path: Path, batch_norm: bool) -> None:
    result = train_digits(tmp_path, short(epochs=10), batch_norm=batch_norm, seed=1)
    assert result["last_top1"] > 80


def test_the_papers_recipe_runs(tmp_path: Path) -> None:
    paper = dataclasses.replace(recipe_named("paper"), max_steps=3, micro_batch=100)
    result = train_digits(tmp_path, paper, batch_norm=False)
    assert result["steps"] == 3


def test_micro_batches_add_up(tmp_path: Path) -> None:
    # Without batch normalisation and dropout the pieces of a batch know nothing of each other.
    states = []
    for micro_batch in (64, 7):
        folder = tmp_path / str(micro_batch)
        recipe = short(max_steps=8, micro_batch=micro_batch, ema_decay=0.0)
        data = open_training_data("digits")
        choice = NetworkChoice(arch="squeezenet_tiny", batch_norm=False)
        model = new_model(choice, recipe, data.class_names, 0)
        for part in model.module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        train_run(model, data, recipe, folder, options=FitOptions(hardware=CPU))
        states.append(load_model(folder / "last.safetensors").module.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-2, atol=1e-4)


def test_bfloat16_learns(tmp_path: Path) -> None:
    data = open_training_data("digits")
    recipe = short(epochs=5)
    model = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, 0)
    options = FitOptions(hardware=choose_hardware("cpu", "bfloat16"))
    assert train_run(model, data, recipe, tmp_path, options=options)["last_top1"] > 80


def cli_train(folder: Path, *more: object) -> list[str]:
    return [
        "train", "digits", "--arch", "squeezenet_tiny", "--out", str(folder),
        "--max-steps", "160", "--threads", "1", "--device", "cpu", *map(str, more),
    ]  # fmt: skip


def start(folder: Path, *more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "squeezenet", *cli_train(folder, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a good end and return what was said on stderr."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stdout + stderr
    return stderr


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    finish(start(folder))
    return folder


def test_ten_kills_end_bit_identical(uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL at 10 random moments, many during a checkpoint, which is written every step."""
    folder = tmp_path / "run"
    rng = random.Random(0)
    for _ in range(10):
        process = start(folder, "--checkpoint-every", 0)
        # Count from the moment at which this process trains.
        seen = {path.name for path in folder.glob("checkpoints/step-*")}

        def trains(seen: set[str] = seen, process: subprocess.Popen[str] = process) -> bool:
            now = {path.name for path in folder.glob("checkpoints/step-*")}
            return bool(now - seen) or process.poll() is not None

        wait_for(trains)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.communicate()
    assert not (folder / "result.json").exists(), "the kills came too late to mean anything"
    finish(start(folder, "--checkpoint-every", 0))
    for name in ("last.safetensors", "best.safetensors"):
        assert weights_of(folder, name) == weights_of(uninterrupted, name)
    losses = [line["loss"] for line in metrics_of(folder, "train")]
    assert losses == [line["loss"] for line in metrics_of(uninterrupted, "train")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_leave(
    uninterrupted: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(lambda: (folder / "metrics.jsonl").is_file() and bool(metrics_of(folder, "train")))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopped at step" in stderr and "run the same command to go on" in stderr
    assert "Traceback" not in stderr
    assert list(folder.glob("checkpoints/step-*.pt"))
    assert "resumed" in finish(start(folder))
    assert weights_of(folder) == weights_of(uninterrupted)


def test_full_disk_while_checkpointing(
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The third checkpoint meets a full disk: one line, exit 1, and the run can go on."""
    folder = tmp_path / "run"
    real, count = os.fsync, [0]

    def full(descriptor: int) -> None:
        if "step-" in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            count[0] += 1
            if count[0] == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    arguments = cli_train(folder, "--checkpoint-every", 0)
    monkeypatch.setattr("squeezenet.files.os.fsync", full)
    assert cli(arguments) == 1
    error = capsys.readouterr().err
    assert "the disk is full); step-000000002.pt is kept" in error and "Traceback" not in error
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["step-000000001.pt", "step-000000002.pt"]
    monkeypatch.undo()
    assert cli(cli_train(folder)) == 0
    assert weights_of(folder) == weights_of(uninterrupted)


def test_folders_of_images(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A folder of pictures, worker processes, a bad image, and fine-tuning to other classes."""
    root = image_folder(red=40, green=40)
    (root / "red" / "000.png").write_bytes(b"broken")
    small = ["--epochs", "3", "--batch-size", "16", "--arch", "squeezenet1_1", "--workers", "2"]
    run = tmp_path / "run"
    assert cli(["train", str(root), "--out", str(run), "--device", "cpu", *small]) == 0
    model = load_model(run)
    assert model.record.spec.input_size == (12, 12)  # the pictures' own short side
    other = image_folder(tmp_path / "other", a=12, b=12, c=12)
    arguments = ["train", str(other), "--from", str(run), "--out", str(tmp_path / "tuned")]
    assert cli([*arguments, "--epochs", "2", "--workers", "0"]) == 0
    tuned = load_model(tmp_path / "tuned")
    assert tuned.record.class_names == ("a", "b", "c")
    assert tuned.record.provenance["method"] == "fine-tuned"


@pytest.mark.parametrize(
    ("arch", "sides"), [("squeezenet_tiny", [6, 6, 8, 8]), ("alexnet_cifar", [16, 16, 16, 16])]
)
def test_first_steps_see_small_images(tmp_path: Path, arch: str, sides: list[int]) -> None:
    recipe = short(max_steps=4, batch_size=16, coarse_share=0.5)
    data = open_training_data("digits")
    size = sides[-1]
    choice = NetworkChoice(arch=arch, input_size=size, input_channels=1)
    model = new_model(choice, recipe, data.class_names, 0)
    seen: list[int] = []
    model.module.register_forward_pre_hook(
        lambda module, x: seen.append(x[0].shape[2]) if module.training else None
    )
    train_run(model, data, recipe, tmp_path, options=FitOptions(hardware=CPU))
    assert seen == sides


def test_choices(image_folder: Callable[..., Path]) -> None:
    images = open_training_data(str(image_folder(a=4, b=4))).train
    assert suggest_input_size("squeezenet1_1", images) == 12
    assert suggest_input_size("squeezenet_tiny", images) is None
    assert default_recipe("digits", input_size=(8, 8)).name == "digits"
    assert default_recipe("x", input_size=(32, 32)).name == "small"
    assert default_recipe("x", input_size=(224, 224)).name == "default"
    data = open_training_data("digits")
    model = new_model(NetworkChoice(arch="squeezenet_tiny"), short(), data.class_names, 0)
    start = model.record
    assert default_recipe("x", input_size=(224, 224), start=start).augmentation.flip
    known = dataclasses.replace(
        start, provenance={"source": {"augmentation": dataclasses.asdict(short().augmentation)}}
    )
    tuned = default_recipe("x", input_size=(8, 8), start=known)
    assert tuned.name == "finetune" and not tuned.augmentation.flip


def test_the_papers_network() -> None:
    paper = recipe_named("paper")
    names = tuple(f"c{i}" for i in range(10))
    model = new_model(NetworkChoice(arch="squeezenet1_0"), paper, names, 0)
    expected = dataclasses.replace(caffe_squeezenet1_0(), num_classes=10)
    assert model.record.spec == expected
    assert model.record.preprocessing == caffe_preprocessing()


def test_divergence_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([*cli_train(tmp_path / "run"), "--learning-rate", "1e30"]) == 1
    assert "start again with a lower --learning-rate" in capsys.readouterr().err


def test_class_balance_changes_the_loss(image_folder: Callable[..., Path]) -> None:
    from squeezenet.train.run import cross_entropy

    images = open_training_data(str(image_folder(a=40, b=4))).train
    logits, labels = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    plain = cross_entropy(short(balance=False, label_smoothing=0.0), images)
    balanced = cross_entropy(short(label_smoothing=0.0), images)
    assert float(balanced(logits, logits, labels)) > float(plain(logits, logits, labels))


def test_fine_tuning_keeps_imagenets_head_only_for_its_classes(shared: Path) -> None:
    net = shared / "compressed_SqueezeNet.net"
    model = start_from(open_pretrained(net, None), ("cat", "dog"), new_head=True, seed=0)
    assert model.record.spec.num_classes == 2
    assert not model.record.spec.head.last_relu
    assert model.record.preprocessing.channels == "BGR"
    assert np.isfinite(model.logits(np.zeros((1, 3, 227, 227), np.float32))).all()


def test_a_report_tells_the_story_and_cannot_cost_a_run(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    card = (run / "report" / "MODEL_CARD.md").read_text()
    assert "epoch that did best" in card and "held out from digits" in card
    assert {path.suffix for path in (run / "report").iterdir()} == {".md", ".png", ".svg"}
    assert (run / "report" / "curves.png").is_file()
    shutil.rmtree(run / "report")
    (run / "report").write_text("in the way")
    assert cli([*cli_train(run), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 160
    assert "no report: " in captured.err and "squeezenet report draws one later" in captured.err
