"""Model files that are damaged, hostile or unknown, by every command that reads them."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.codec import container
from squeezenet.model.load import from_compressed
from squeezenet.model.safetensors_file import save_safetensors
from tests.cli.running import Capture, failure
from tests.codec.test_han import small_net
from tests.model.test_model import Attack, torchvision_state


@pytest.mark.parametrize("command", ["info", "eval", "predict", "convert", "compress"])
@pytest.mark.parametrize("kind", ["sqz", "safetensors", "net", "pth"])
def test_truncated_models(
    capsys: Capture, tmp_path: Path, sqz: Path, command: str, kind: str
) -> None:
    path = tmp_path / f"model.{kind}"
    if kind == "sqz":
        data = sqz.read_bytes()
    elif kind == "net":
        data = small_net()
    else:
        if kind == "pth":
            torch.save(torchvision_state("squeezenet1_1"), path)
        else:
            model = from_compressed(container.read_sqz(sqz))
            save_safetensors(path, model.record, model.module.state_dict())
        data = path.read_bytes()
    more: dict[str, list[object]] = {
        "eval": ["digits"],
        "predict": [path],
        "convert": [tmp_path / "out.sqz"],
        "compress": ["--out", tmp_path / "out.sqz", "--data", "digits"],
    }
    for length in (len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        line = failure(capsys, 1, command, path, *more.get(command, []))
        assert f"model.{kind}" in line
    path.write_bytes(b"")
    assert "the file is empty" in failure(capsys, 1, command, path, *more.get(command, []))
    assert not (tmp_path / "out.sqz").exists()


@pytest.mark.parametrize("bare", [False, True])
def test_pth_with_a_pickle_attack(capsys: Capture, tmp_path: Path, bare: bool) -> None:
    path, proof = tmp_path / "x.pth", tmp_path / "attacked"
    if bare:
        path.write_bytes(pickle.dumps(Attack(proof)))
    else:
        torch.save({"features.0.weight": Attack(proof)}, path)
    assert "may be an attack" in failure(capsys, 1, "info", path)
    assert not proof.exists()


def test_torchvisions_alexnet(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    keys = "features.0.weight", "features.10.weight", "classifier.6.weight"
    torch.save({key: torch.zeros(1) for key in keys}, path)
    assert "torchvision's alexnet" in failure(capsys, 1, "info", path)


def test_unknown_content(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "x.sqz"
    path.write_bytes(b"hello, I am a text" * 100)
    assert "not a model that squeezenet knows" in failure(capsys, 1, "info", path)
    (tmp_path / "folder").mkdir()
    assert "no best.safetensors inside" in failure(capsys, 2, "info", tmp_path / "folder")


def test_network_with_logits_that_are_not_finite(
    capsys: Capture, sqz: Path, image_folder: Callable[..., Path]
) -> None:
    model = container.read_sqz(sqz)
    layers = [
        dataclasses.replace(layer, bias_O=np.full_like(layer.bias_O, 3e38))
        for layer in model.layers
    ]
    sqz.write_bytes(container.encode(dataclasses.replace(model, layers=tuple(layers))))
    folder = image_folder(c0=2, c1=2)
    for command in ("eval", "predict"):
        assert "not finite numbers" in failure(capsys, 1, command, sqz, folder)
