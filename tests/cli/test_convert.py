"""``convert`` loses nothing, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from squeezenet.cli.app import run as cli
from squeezenet.codec import container
from squeezenet.codec.han import read_net
from squeezenet.codec.model_kinds import DEFAULT_MODEL
from squeezenet.model.load import load_model
from tests.cli.running import Capture, as_json, failure, output
from tests.model.test_model import torchvision_state


def test_convert_to_half(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    as_json(capsys, "convert", sqz, whole)
    as_json(capsys, "convert", sqz, half, "--half")
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    a, b = (load_model(file).module.state_dict() for file in (whole, half))
    for key, tensor in a.items():
        torch.testing.assert_close(b[key], tensor, rtol=1e-3, atol=1e-6)
    assert cli(["convert", str(sqz), str(tmp_path / "x.sqz"), "--half"]) == 2


def test_convert_loses_nothing(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    model = container.read_sqz(sqz)
    out = tmp_path / "x.safetensors"
    assert as_json(capsys, "convert", sqz, out)["file_bytes"] == out.stat().st_size
    back = tmp_path / "back.sqz"
    output(capsys, "convert", out, back)
    again = container.read_sqz(back)
    for a, b in zip(model.layers, again.layers, strict=True):
        bits = [layer.weights.dequantize().view(np.uint32) for layer in (a, b)]
        np.testing.assert_array_equal(*bits)
    copy = tmp_path / "copy.sqz"
    output(capsys, "convert", sqz, copy)
    assert copy.read_bytes() == sqz.read_bytes()


def test_huffman_codes_of_integer_files(
    capsys: Capture, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    """They run in float32, since integer clients may refuse them."""
    sqz, folder = tmp_path / "h.sqz", image_folder(airplane=1, cat=1)
    found = as_json(capsys, "convert", "default", sqz, "--coder", "huffman")
    assert found["file_bytes"] > DEFAULT_MODEL.stat().st_size
    assert "client" not in as_json(capsys, "info", sqz)
    assert as_json(capsys, "eval", sqz, folder)["arithmetic"] == "float32"
    back = tmp_path / "back.sqz"
    as_json(capsys, "convert", sqz, back)
    in_float, again, before = (
        as_json(capsys, "predict", model, folder)["predictions"] for model in (sqz, back, "default")
    )
    assert again == before
    assert [each["label"] for each in in_float] == [each["label"] for each in before]


def test_published_file_through_every_format(capsys: Capture, shared: Path, tmp_path: Path) -> None:
    net, sqz, tensors = (
        shared / "compressed_SqueezeNet.net",
        tmp_path / "h.sqz",
        tmp_path / "h.safetensors",
    )
    assert as_json(capsys, "convert", net, sqz)["file_bytes"] <= 570_000
    output(capsys, "convert", sqz, tensors)
    state = load_model(tensors).module.state_dict()
    keys = list(state)
    assert keys[0] == "features.0.weight" and keys[-1] == "classifier.1.bias" and len(keys) == 52
    from squeezenet.arch.graph import build_graph

    original = read_net(net)
    for conv, layer in zip(build_graph(original.record.spec).convs, original.layers, strict=True):
        for part, expected in (("weight", layer.weights.dequantize()), ("bias", layer.bias_O)):
            found = state[f"{conv.key}.{part}"].numpy()
            np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    # And back again: the same 26 codebooks' worth of weights.
    output(capsys, "convert", tensors, tmp_path / "back.sqz")


def test_lossy_conversion(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(torchvision_state("squeezenet1_1"), path)
    line = failure(capsys, 1, "convert", path, tmp_path / "x.sqz")
    assert "conv1: over 255 different weights" in line and "squeezenet compress" in line


def test_wrong_use(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    line = failure(capsys, 2, "convert", sqz, tmp_path / "x.onnx")
    assert "ending '.onnx', expected" in line
    line = failure(capsys, 2, "convert", sqz, tmp_path / "none" / "x.sqz")
    assert "does not exist; make it first" in line


def test_the_word_default(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    as_json(capsys, "convert", "default", out)
    assert as_json(capsys, "info", out)["parameters"] == 673_226
