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

from squeezenet.arch.presets import preset
from squeezenet.cli.app import run as cli
from squeezenet.data.sources import open_training_data
from squeezenet.errors import CheckpointError
from squeezenet.evaluation.predict import evaluate
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.load import load_model
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.recipe import Recipe, recipe_named, recorded_augmentation
from squeezenet.train.run import (
    _without_impossible_resizing,
    cross_entropy,
    train_run,
    validator,
)
from squeezenet.train.start import NetworkChoice, new_model, open_pretrained, start_from
from tests.train.small import CPU, bright_images, quick, quick_run, small_data

GOLDEN_LOSSES = (
    [2.135, 1.249, 0.727, 0.751, 0.498, 0.593],
    [2.135, 1.244, 0.806, 0.752, 0.461, 0.531],  # on AVX2 alone (Zen 3), where sums differ
)


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
        "best.safetensors", "last.safetensors", "data.fingerprint",
    }  # fmt: skip
    assert [line["epoch"] for line in metrics_of(folder, "val")] == list(range(1, 13))
    losses = [line["loss"] for line in metrics_of(folder, "train")]
    # A golden curve, with room for other processors' arithmetic: every 20 steps of seed 0.
    assert any(losses[:6] == pytest.approx(golden, rel=0.1) for golden in GOLDEN_LOSSES), losses[:6]
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
    result = train_digits(tmp_path, short(epochs=6), batch_norm=batch_norm, seed=1)
    assert result["last_top1"] > 80


def test_the_papers_recipe_runs(tmp_path: Path) -> None:
    paper = dataclasses.replace(recipe_named("paper"), max_steps=3, micro_batch=100)
    result = train_digits(tmp_path, paper, batch_norm=False)
    assert result["steps"] == 3


def test_micro_batches_add_up(tmp_path: Path) -> None:
    # Without batch normalisation and dropout the parts of a batch do not influence each other.
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


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert cli(cli_train(folder)) == 0
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
    assert cli(cli_train(folder, "--checkpoint-every", 0)) == 0
    for name in ("last.safetensors", "best.safetensors"):
        assert weights_of(folder, name) == weights_of(uninterrupted, name)
    losses = [line["loss"] for line in metrics_of(folder, "train")]
    assert losses == [line["loss"] for line in metrics_of(uninterrupted, "train")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_leave(
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
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
    assert cli(cli_train(folder)) == 0
    assert "resumed" in capsys.readouterr().err
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


def test_divergence_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([*cli_train(tmp_path / "run"), "--learning-rate", "1e30"]) == 1
    assert "start again with a lower --learning-rate" in capsys.readouterr().err


def test_the_loss(image_folder: Callable[..., Path]) -> None:
    """Cross-entropy with label smoothing; each class weighs alike, and the mean is over images."""
    images = open_training_data(str(image_folder(a=40, b=4)), val_fraction=0.01).train
    counts = np.bincount(images.labels)
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.5, 1.5]], dtype=torch.bfloat16)
    labels = torch.tensor([0, 1, 1])
    log_p = torch.log_softmax(logits.float(), dim=1)
    target = torch.nn.functional.one_hot(labels, 2) * 0.9 + 0.05
    plain = cross_entropy(short(balance=False, label_smoothing=0.1), images)
    expected = -(target * log_p).sum(dim=1)
    torch.testing.assert_close(plain(logits, logits, labels), expected.mean())
    balanced = cross_entropy(short(label_smoothing=0.0), images)
    weights = torch.tensor(len(images) / (2 * counts), dtype=torch.float32)
    expected = -log_p[torch.arange(3), labels] * weights[labels]
    torch.testing.assert_close(balanced(logits, logits, labels), expected.mean())
    # Parts of a batch add up, whatever their classes.
    parts = [balanced(logits[i : i + 1], logits, labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), balanced(logits, logits, labels))
    even = bright_images(4)
    a, b = (cross_entropy(short(balance=balance), even) for balance in (True, False))
    assert torch.equal(a(logits, logits, labels), b(logits, logits, labels))


@pytest.mark.parametrize(
    ("arch", "size", "share"),
    [("squeezenet1_1", 32, 0.5), ("squeezenet1_1", 224, 0.5), ("alexnet_cifar", 32, 0.0)],
)
def test_progressive_resizing_where_the_network_takes_it(
    arch: str, size: int, share: float
) -> None:
    spec = preset(arch, input_size=(size, size))
    recipe = short(coarse_share=0.5)
    assert _without_impossible_resizing(recipe, spec).coarse_share == share
    assert _without_impossible_resizing(short(), spec) == short()


def test_no_progressive_resizing_below_the_smallest_input() -> None:
    # The smallest input of v1.1's full form is 25 pixels: three quarters of 33, rounded up.
    spec = preset("squeezenet1_1")
    recipe = short(coarse_share=0.5)
    for side, share in ((32, 0.0), (33, 0.5)):
        square = dataclasses.replace(spec, input_size=(side, side))
        assert _without_impossible_resizing(recipe, square).coarse_share == share


def test_validation_is_on_the_validation_set(tmp_path: Path) -> None:
    data = small_data()
    recipe = short()
    model = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, 0)
    bad = BadImages()
    validate = validator(model.record, data, FitOptions(hardware=CPU, bad=bad))
    model.module.train()
    result = validate(model.module)
    assert result.images == len(data.val) and not model.module.training
    expected = evaluate(
        from_pixels(model.logits, model.record.preprocessing),
        model.record,
        EvalBatches(data.val, model.record.preprocessing, workers=0),
    )
    assert result == expected


def test_a_run_says_what_it_trained_on(tmp_path: Path) -> None:
    result = quick_run(tmp_path / "run", quick(epochs=1))
    expected = {
        "arch": "squeezenet_tiny", "recipe": "quick", "seed": 0, "steps": 4, "epochs": 1.0,
        "train_images": 32, "val_images": 10, "classes": 2,
    }  # fmt: skip
    assert {key: result[key] for key in expected} == expected
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["architecture"] == "squeezenet_tiny" and settings["seed"] == 0
    assert settings["data"] == small_data().fingerprint().summary
    assert settings["start"] == {"method": "trained", "seed": 0}
    for name in ("best", "last"):
        provenance = load_model(tmp_path / "run" / f"{name}.safetensors").record.provenance
        assert provenance["recipe"] == "quick" and provenance["val_fraction"] == 0.1
        assert recorded_augmentation(load_model(tmp_path / "run").record) == quick().augmentation


def test_a_new_head_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start of a run, not when it is resumed, and only if there is a new one."""
    fitted: list[bool] = []
    monkeypatch.setattr(
        "squeezenet.train.run.fit_head",
        lambda model, images, *, balance, options: fitted.append(balance),
    )
    data, recipe = small_data(), quick(epochs=1)
    for name, new_head, epochs in (("a", False, 1), ("b", True, 1), ("b", True, 2)):
        model = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, 0)
        longer = dataclasses.replace(recipe, epochs=epochs)
        options = FitOptions(hardware=CPU)
        train_run(model, data, longer, tmp_path / name, new_head=new_head, options=options)
    assert fitted == [True]


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
    written = {path for path in (run / "report").iterdir() if path.name != "SHA256SUMS"}
    assert {path.suffix for path in written} == {".md", ".png", ".svg", ".html", ".csv"}
    assert (run / "report" / "curves.png").is_file()
    shutil.rmtree(run / "report")
    (run / "report").write_text("in the way")
    assert cli([*cli_train(run), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 160
    assert "no report: " in captured.err and "squeezenet report draws one later" in captured.err
