"""``eval``: what it measures, and labels that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.model.load import from_compressed
from squeezenet.model.safetensors_file import save_safetensors
from tests.cli.running import Capture, as_json, failure, output
from tests.conftest import random_model


def test_eval(capsys: Capture, sqz: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(c0=3, c5=3)
    (folder / "c0" / "bad.png").write_bytes(b"x")
    result = as_json(capsys, "eval", sqz, folder, "--against", sqz)
    assert result["images"] == 6 and result["skipped"] == 1
    assert result["file_bytes"] == sqz.stat().st_size
    assert (result["agreement"], result["kl"], result["top1_difference"]) == (100.0, 0.0, 0.0)
    assert "top-1" in output(capsys, "eval", sqz, folder, "--workers", "0")


def test_more_classes_than_the_model_has(
    capsys: Capture, image_folder: Callable[..., Path], sqz: Path
) -> None:
    folder = image_folder(**{f"c{i}": 1 for i in range(11)})
    line = failure(capsys, 1, "eval", sqz, folder)
    assert "class 'c10' is not one of the model's 10 classes" in line


def test_run_folder_as_a_model(
    capsys: Capture,
    tmp_path: Path,
    tiny_record: ModelRecord,
    image_folder: Callable[..., Path],
) -> None:
    model = from_compressed(random_model(tiny_record))
    run = tmp_path / "run"
    run.mkdir()
    save_safetensors(run / "best.safetensors", model.record, model.module.state_dict())
    assert as_json(capsys, "info", run)["parameters"] == 16_058
    folder = image_folder(c0=2, c9=3)
    assert as_json(capsys, "eval", run / "best.safetensors", folder)["images"] == 5


def test_imagenet_accuracy_of_the_published_file(capsys: Capture, shared: Path) -> None:
    result = as_json(
        capsys, "eval", shared / "compressed_SqueezeNet.net", shared / "imagenet-val500"
    )
    assert result["top1"] == pytest.approx(56.6, abs=0.4)
    assert result["top5"] == pytest.approx(82.0, abs=0.4)
    assert (result["images"], result["skipped"]) == (500, 0)


def test_wrong_use(capsys: Capture, tmp_path: Path) -> None:
    line = failure(capsys, 2, "eval", tmp_path / "none.sqz", "digits")
    assert "none.sqz: no such file" in line


def test_the_word_default(capsys: Capture, image_folder: Callable[..., Path]) -> None:
    """It names the package's network as the model and as the reference."""
    folder = image_folder(cat=2, dog=2)
    result = as_json(capsys, "eval", "default", folder, "--against", "default")
    assert (result["images"], result["file_bytes"]) == (4, 89_981)
    assert result["arithmetic"] == "integer" and result["agreement"] >= 75  # against float32
