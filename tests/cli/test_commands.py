"""The commands on good input: what they print and what they write."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from squeezenet.api.model_argument import DEFAULT_MODEL
from squeezenet.arch.record import ModelRecord
from squeezenet.cli import demo as demo_module
from squeezenet.cli.app import run as cli
from squeezenet.codec import container
from squeezenet.codec.han import read_net
from squeezenet.model.load import from_compressed, load_model
from squeezenet.model.safetensors_file import save_safetensors
from tests.conftest import random_model

Capture = pytest.CaptureFixture[str]


def output(capsys: Capture, *arguments: object) -> str:
    """Run a command that must succeed; return its stdout."""
    code = cli([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def as_json(capsys: Capture, *arguments: object) -> dict[str, object]:
    result = json.loads(output(capsys, *arguments, "--json"))
    assert isinstance(result, dict)
    return result


@pytest.fixture
def sqz(tmp_path: Path, tiny_record: ModelRecord) -> Path:
    path = tmp_path / "tiny.sqz"
    path.write_bytes(container.encode(random_model(tiny_record)))
    return path


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("squeezenet1_0", 1_248_424), ("squeezenet1_1", 1_235_496), ("alexnet", 60_965_224)],
)
def test_info_of_an_architecture(capsys: Capture, name: str, parameters: int) -> None:
    result = as_json(capsys, "info", name)
    assert result["parameters"] == parameters
    assert result["weight_bytes"] == 4 * parameters and result["file_bytes"] is None
    assert {"macs", "activation_bytes", "layers"} <= set(result)
    assert f"{parameters:,}" in output(capsys, "info", name)


def test_info_of_a_file(capsys: Capture, sqz: Path) -> None:
    result = as_json(capsys, "info", sqz)
    assert result["file_bytes"] == sqz.stat().st_size
    layers = result["layers"]
    assert isinstance(layers, list) and 30 < layers[0]["density"] < 50
    text = output(capsys, "info", sqz)
    assert "preprocessing" in text and "c0, c1" in text


def test_eval(capsys: Capture, sqz: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(c0=3, c5=3)
    (folder / "c0" / "bad.png").write_bytes(b"x")
    result = as_json(capsys, "eval", sqz, folder, "--against", sqz)
    assert result["images"] == 6 and result["skipped"] == 1
    assert result["file_bytes"] == sqz.stat().st_size
    assert (result["agreement"], result["kl"], result["top1_difference"]) == (100.0, 0.0, 0.0)
    assert "top-1" in output(capsys, "eval", sqz, folder, "--workers", "0")


def test_predict(capsys: Capture, sqz: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(a=2, b=2)
    shy = sqz.with_name("shy.sqz")  # with so little weight that no class stands out
    model = container.read_sqz(sqz)
    layer = model.layers[-1]
    weights = dataclasses.replace(layer.weights, codebook=layer.weights.codebook * 0)
    layers = (*model.layers[:-1], dataclasses.replace(layer, weights=weights))
    shy.write_bytes(container.encode(dataclasses.replace(model, layers=layers)))
    one, bad = folder / "a" / "000.png", folder / "a" / "bad.png"
    bad.write_bytes(b"x")
    result = as_json(capsys, "predict", sqz, folder)
    predictions = result["predictions"]
    assert isinstance(predictions, list) and len(predictions) == 4 and result["skipped"] == 1
    assert len(predictions[0]["top"]) == 3
    assert predictions[0]["label"] == predictions[0]["top"][0]["class"]
    rows = list(csv.reader(io.StringIO(output(capsys, "predict", sqz, one, "--format", "csv"))))
    assert rows[0] == ["image", "label", "probability"] and rows[1][0] == str(one)
    lines = output(capsys, "predict", sqz, f"{folder}/*/*0.png", "--format", "jsonl").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [
        str(folder / "a" / "000.png"), str(folder / "b" / "000.png"),
    ]  # fmt: skip
    unsure = as_json(capsys, "predict", shy, one, "--min-probability", "0.9")
    assert unsure["predictions"][0]["label"] == "unsure"


def test_the_network_that_comes_with_the_package(capsys: Capture, tmp_path: Path) -> None:
    """Without a model, ``predict`` asks it; ``default`` names it elsewhere."""
    picture = tmp_path / "sea.png"
    Image.new("RGB", (40, 30), (40, 90, 200)).save(picture)
    [prediction] = as_json(capsys, "predict", picture)["predictions"]
    assert prediction["label"] in {"airplane", "bird", "ship"}
    info = as_json(capsys, "info", "default")
    assert info["parameters"] == 673_226 and info["file_bytes"] == 89_981
    assert as_json(capsys, "predict", "default", picture)["predictions"] == [prediction]


def test_predict_from_stdin(sqz: Path, image_folder: Callable[..., Path]) -> None:
    image = (image_folder(a=1) / "a" / "000.png").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "squeezenet", "predict", str(sqz), "-", "--json"],
        input=image,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["image"] == "-"


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


def test_the_light_install_has_no_torch(sqz: Path, image_folder: Callable[..., Path]) -> None:
    """info, eval and predict on a .sqz work where torch is not; training says what to install."""
    folder = image_folder(c0=2, c1=2)
    blocked = "torch", "safetensors", "sklearn", "tensorboard"
    program = (
        "import sys, importlib.util as u\n"
        f"blocked = {blocked!r}\n"
        "for name in blocked: sys.modules[name] = None\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in blocked else find(name, *a)\n"
        "from squeezenet.cli.app import run\n"
        "codes = [run(['info', sys.argv[1]]), run(['eval', sys.argv[1], sys.argv[2]]),\n"
        "         run(['predict', sys.argv[1], sys.argv[2]]), run(['fetch']),\n"
        "         run(['convert', sys.argv[1], sys.argv[1] + '.copy.sqz']),\n"
        "         run(['train', 'digits', '--arch', 'squeezenet_tiny', '--out', 'x'])]\n"
        "print(codes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sqz), str(folder)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 1]", done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "squeezenet: training needs the Python package 'torch', which is not installed; "
        "install it with: pip install 'sqznet[train]'; without a GPU, install a CPU build of torch "
        "before it, which is far smaller: see pytorch.org/get-started"
    )


def test_output_is_plain_where_it_is_no_terminal(sqz: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "squeezenet", "info", str(sqz)], capture_output=True, text=True
    )
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr


def test_help_and_version(capsys: Capture) -> None:
    assert "predict" in output(capsys, "--help")
    assert output(capsys, "--version").strip() == "0.1.0"
    for command in ["info", "train", "eval", "compress", "convert", "predict", "fetch", "demo"]:
        assert "Usage" in output(capsys, command, "--help")


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


def test_demo(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it, in full: it is the product's first promise."""
    text = output(capsys, "demo", "--out", tmp_path / "demo")
    assert "huffman" in text and "range coder" in text and "digit0_is_" in text
    monkeypatch.setattr(demo_module, "REQUIRED_TOP1", 100.1)
    code = cli(["demo", "--out", str(tmp_path / "demo"), "--json"])  # trains no more
    captured = capsys.readouterr()
    assert code == 3 and "squeezenet: demo: top-1" in captured.err
    result = json.loads(captured.out)
    assert result["top1_before"] >= 97.0 and result["top1_after"] >= 97.0
    assert result["file_bytes"] < 60_000


def test_imagenet_accuracy_of_the_published_file(capsys: Capture, shared: Path) -> None:
    result = as_json(
        capsys, "eval", shared / "compressed_SqueezeNet.net", shared / "imagenet-val500"
    )
    assert result["top1"] == pytest.approx(56.6, abs=0.4)
    assert result["top5"] == pytest.approx(82.0, abs=0.4)
    assert (result["images"], result["skipped"]) == (500, 0)


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


def test_predict_names_what_is_in_photographs(capsys: Capture, shared: Path) -> None:
    from squeezenet.arch.imagenet import imagenet_classes

    names = dict(zip(*reversed(imagenet_classes()), strict=True))
    images = [
        shared / "imagenet-val500" / name
        for name in (
            "n01735189/78059d1afd7b9fea.jpg",  # garter snake
            "n02799071/517dc655edeaf344.jpg",  # baseball
            "n03743016/f0add7f552d2d895.jpg",  # megalith
        )
    ]
    predictions = as_json(capsys, "predict", shared / "compressed_SqueezeNet.net", *images)
    for image, prediction in zip(images, predictions["predictions"], strict=True):
        assert prediction["label"] == names[image.parent.name]


def test_a_picture_of_any_kind(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    for name, mode, size in (
        ("a.png", "RGBA", (3, 40)),
        ("b.jpg", "CMYK", (40, 3)),
        ("c.tif", "L", (1, 1)),
    ):
        Image.new(mode, size).save(tmp_path / name)
        assert name in output(capsys, "predict", sqz, tmp_path / name)
