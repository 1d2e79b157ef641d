"""Checks that take minutes; ``make test-slow`` runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from squeezenet.data.digits import load_digits
from squeezenet.data.sources import open_training_data
from squeezenet.evaluation.predict import evaluate
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.load import load_model
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run import train_run
from squeezenet.train.start import NetworkChoice, new_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_starts(tmp_path: Path, seed: int) -> None:
    """The default recipe learns the digits from any seed."""
    data, recipe = open_training_data("digits"), recipe_named("digits")
    model = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, seed)
    train_run(model, data, recipe, tmp_path, seed=seed)
    trained = load_model(tmp_path)
    batches = EvalBatches(load_digits()["test"], trained.record.preprocessing, workers=0)
    assert (
        evaluate(
            from_pixels(trained.logits, trained.record.preprocessing), trained.record, batches
        ).top1
        >= 97.0
    )


def test_alexnet_trains_and_compresses(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    """The baseline goes the same way as every network, all 61 million weights of it."""
    folder = image_folder(a=12, b=12, size=(64, 48))
    run = tmp_path / "run"
    small = ["--epochs", "1", "--batch-size", "8", "--device", "cpu", "--workers", "0"]
    assert cli(["train", str(folder), "--arch", "alexnet", "--out", str(run), *small]) == 0
    out = tmp_path / "x.sqz"
    arguments = ["compress", str(run), "--data", str(folder), "--out", str(out)]
    once = [
        "--method", "deep-compression", "--density", "0.1", "--bits", "5",
        "--prune-epochs", "0", "--share-epochs", "0",
    ]  # fmt: skip
    assert cli([*arguments, *once]) == 0
    assert out.stat().st_size < 58_000_000 * 4 / 30
    assert cli(["predict", str(out), str(folder / "a")]) == 0
