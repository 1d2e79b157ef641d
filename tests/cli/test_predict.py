"""``predict``: labels of images from everywhere, in every format."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from squeezenet.cli.app import run as cli
from squeezenet.codec import container
from tests.cli.running import Capture, as_json, failure, output


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


def test_names_with_control_characters(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad\nsqueezenet: all is well\x1b[31m.png"
    bad.write_bytes(b"x")
    assert cli(["predict", str(sqz), str(bad)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("skipped ")
    assert r"bad\nsqueezenet: all is well\x1b[31m.png: not a readable image" in lines[0]
    assert lines[-1] == "squeezenet: none of the images could be read; see the messages above"
    assert "\x1b" not in "".join(lines)


def test_no_image_can_be_read(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    assert "none of the images could be read" in failure(capsys, 1, "predict", sqz, bad)
    assert "no such file" not in failure(capsys, 2, "predict", sqz)
    assert "absent.jpg: no such file" in failure(capsys, 2, "predict", tmp_path / "absent.jpg")
    assert "no file matches" in failure(capsys, 2, "predict", sqz, tmp_path / "*.gif")


def test_wrong_use(capsys: Capture, sqz: Path) -> None:
    line = failure(capsys, 2, "predict", sqz, "--nonsense")
    assert "unknown option --nonsense" in line
    line = failure(capsys, 2, "predict", sqz, sqz, "--min-probability", "2")
    assert "--min-probability 2.0" in line
    line = failure(capsys, 2, "predict", sqz)
    assert "no image given" in line


def test_which_network_predicts_without_a_model(capsys: Capture, tmp_path: Path) -> None:
    """It is named on stderr with all its classes, whatever the format on stdout."""
    picture = tmp_path / "sea.png"
    Image.new("RGB", (40, 30), (40, 90, 200)).save(picture)
    classes = as_json(capsys, "info", "default")["record"]["class_names"]
    notice = (
        "no model given: using the built-in CIFAR-10 network, which knows "
        + ", ".join(classes)
        + "\n"
    )
    for options in ([], ["--json"], ["--format", "csv"], ["--format", "jsonl"]):
        assert cli(["predict", str(picture), *options]) == 0
        captured = capsys.readouterr()
        assert captured.err == notice and "no model" not in captured.out
    assert cli(["predict", "default", str(picture)]) == 0
    assert capsys.readouterr().err == ""
