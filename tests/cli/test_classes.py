"""``--classes``: names for weights that have none, kept in every file made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import squeezenet
from squeezenet.arch.presets import preset
from squeezenet.errors import ClassCountError
from squeezenet.model.init import initialise
from squeezenet.model.network import build_module
from tests.cli.running import Capture, as_json, failure, output
from tests.conftest import squeezenet as squeezenet_command

ARCH = ("--arch", "squeezenet_tiny")
NAMES = ["zebra", "ant", "mole"]
"""Not sorted: the outputs of a network may be in any order."""


@pytest.fixture
def pth(tmp_path: Path) -> Path:
    """Write weights of a small network, as another program would save them."""
    spec = preset("squeezenet_tiny", num_classes=len(NAMES), batch_norm=False)
    module = build_module(spec)
    initialise(module, spec, "he", 0)
    path = tmp_path / "tuned.pth"
    torch.save({"model": module.state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES), encoding="utf-8")
    return path


@pytest.fixture
def images(image_folder: Callable[..., Path]) -> Path:
    return image_folder(ant=12, mole=12, zebra=12)


def names_of(capsys: Capture, model: Path) -> object:
    record = as_json(capsys, "info", model)["record"]
    assert isinstance(record, dict)
    return record["class_names"]


def test_foreign_weights_are_evaluated(
    capsys: Capture, pth: Path, names: Path, images: Path
) -> None:
    line = failure(capsys, 1, "eval", pth, images, *ARCH)
    assert "'ant' is not one of the model's 3 classes" in line and "--classes FILE" in line
    result = as_json(capsys, "eval", pth, images, *ARCH, "--classes", names)
    assert result["images"] == 36
    result = as_json(capsys, "eval", pth, images, *ARCH, "--classes", names, "--against", pth)
    assert result["agreement"] == 100.0
    named = pth.with_name("named.safetensors")
    output(capsys, "convert", pth, named, *ARCH, "--classes", names)
    line = failure(capsys, 1, "eval", named, images, *ARCH, "--against", pth)
    assert "different classes" in line and "--classes FILE" in line


def test_names_are_kept_in_converted_files(
    capsys: Capture, pth: Path, names: Path, images: Path, tmp_path: Path
) -> None:
    named, unnamed = tmp_path / "named.safetensors", tmp_path / "unnamed.safetensors"
    output(capsys, "convert", pth, named, *ARCH, "--classes", names)
    assert names_of(capsys, named) == NAMES
    output(capsys, "convert", pth, unnamed, *ARCH)
    assert names_of(capsys, unnamed) == ["class0", "class1", "class2"]
    output(capsys, "convert", unnamed, tmp_path / "x.safetensors", "--classes", names)
    assert (tmp_path / "x.safetensors").read_bytes() == named.read_bytes()
    line = failure(capsys, 2, "eval", named, images, "--classes", images)
    assert "names its classes itself (zebra, ant, mole, ...)" in line
    assert as_json(capsys, "eval", named, images, "--classes", names)["images"] == 36


def test_names_are_kept_in_compressed_files(
    capsys: Capture, pth: Path, names: Path, images: Path, tmp_path: Path
) -> None:
    sqz, unnamed = tmp_path / "x.sqz", tmp_path / "unnamed.sqz"
    options = [*ARCH, "--data", images, "--effort", "low", "--workers", "0"]
    line = failure(capsys, 1, "compress", pth, "--out", sqz, *options)
    assert "--classes FILE" in line
    output(capsys, "compress", pth, "--out", sqz, *options, "--classes", names)
    assert names_of(capsys, sqz) == NAMES
    calib = [*ARCH, "--calib", images, "--effort", "low", "--workers", "0"]
    output(capsys, "compress", pth, "--out", unnamed, *calib)
    assert names_of(capsys, unnamed) == ["class0", "class1", "class2"]
    picture = next(images.rglob("*.png"))
    plain = as_json(capsys, "predict", unnamed, picture)["predictions"]
    [before] = plain if isinstance(plain, list) else []
    renamed = as_json(capsys, "predict", unnamed, picture, "--classes", names)["predictions"]
    [after] = renamed if isinstance(renamed, list) else []
    assert after["label"] == NAMES[int(before["label"][-1])]
    assert after["probability"] == pytest.approx(before["probability"], abs=1e-4)
    output(capsys, "convert", unnamed, tmp_path / "named.sqz", "--classes", names)
    assert names_of(capsys, tmp_path / "named.sqz") == NAMES


def test_report_info_and_predict(
    capsys: Capture, pth: Path, names: Path, images: Path, tmp_path: Path
) -> None:
    output(capsys, "report", pth, images, "--out", tmp_path / "r", *ARCH, "--classes", names)
    assert "zebra" in (tmp_path / "r" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "zebra, ant, mole" in output(capsys, "info", pth, *ARCH, "--classes", names)
    picture = next(images.rglob("*.png"))
    for arguments in (("predict", pth, picture), ("predict", pth, picture, "--json")):
        done = squeezenet_command(*arguments, *ARCH, "--classes", names)
        assert done.returncode == 0 and any(name in done.stdout for name in NAMES)
        assert "read weights under 'model'; not read: epoch" in done.stderr


def test_the_last_layer_is_kept_where_the_names_are_the_datas(
    capsys: Capture, pth: Path, images: Path, tmp_path: Path
) -> None:
    options = ["--from", pth, "--arch", "squeezenet_tiny", "--max-steps", "1", "--workers", "0"]
    result = as_json(capsys, "train", images, "--out", tmp_path / "a", *options)
    assert result["new_head"] is True
    result = as_json(
        capsys, "train", images, "--out", tmp_path / "b", *options, "--classes", images
    )
    assert result["new_head"] is False
    assert names_of(capsys, tmp_path / "b") == ["ant", "mole", "zebra"]
    line = failure(capsys, 2, "train", images, "--out", tmp_path / "c", "--classes", images,
                   "--arch", "squeezenet_tiny")  # fmt: skip
    assert "--from" in line


def test_python(pth: Path, images: Path) -> None:
    model = squeezenet.open_model(pth, "squeezenet_tiny", classes=NAMES)
    assert model.classes == tuple(NAMES)
    assert model.predict(next(images.rglob("*.png")), 1)[0].label in NAMES
    with pytest.raises(ClassCountError, match="has 3 outputs, --classes names 2"):
        squeezenet.open_model(pth, "squeezenet_tiny", classes=["a", "b"])
