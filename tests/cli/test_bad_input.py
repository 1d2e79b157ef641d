"""Bad input: one clear line on stderr, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import dataclasses
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.arch.record import ModelRecord
from squeezenet.cli.app import run as cli
from squeezenet.codec import container
from squeezenet.model.load import from_compressed
from squeezenet.model.safetensors_file import save_safetensors
from tests.codec.test_han import small_net
from tests.conftest import random_model
from tests.model.test_model import Attack, torchvision_state

Capture = pytest.CaptureFixture[str]


def failure(capsys: Capture, code: int, *arguments: object) -> str:
    """Run a command that must fail with this exit code; return its one line."""
    capsys.readouterr()
    assert cli([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err and "internal error" not in captured.err
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("squeezenet: ")
    assert all("skipped" in line for line in lines[:-1])  # images that could not be read
    return lines[-1]


@pytest.fixture
def sqz(tmp_path: Path, tiny_record: ModelRecord) -> Path:
    path = tmp_path / "tiny.sqz"
    path.write_bytes(container.encode(random_model(tiny_record)))
    return path


def train(data: object, out: Path) -> list[object]:
    return ["train", data, "--arch", "squeezenet1_1", "--out", out, "--device", "cpu"]


def test_empty_folder(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no class folders inside" in failure(capsys, 1, *train(empty, tmp_path / "run"))
    assert "no class folders inside" in failure(capsys, 1, "eval", sqz, empty)
    assert "no images inside" in failure(capsys, 1, "predict", sqz, empty)
    assert not (tmp_path / "run").exists()


def test_one_class_only(capsys: Capture, tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    line = failure(capsys, 1, *train(image_folder(cat=5), tmp_path / "run"))
    assert "only one class, 'cat'; a classifier needs two class folders or more" in line


def test_a_class_without_images(
    capsys: Capture, tmp_path: Path, image_folder: Callable[..., Path], sqz: Path
) -> None:
    folder = image_folder(c0=5, c1=5)
    (folder / "c2").mkdir()
    assert "class 'c2' has no images" in failure(capsys, 1, *train(folder, tmp_path / "run"))
    assert "class 'c2' has no images" in failure(capsys, 1, "eval", sqz, folder)


def test_an_unreadable_image(
    capsys: Capture, tmp_path: Path, image_folder: Callable[..., Path], sqz: Path
) -> None:
    folder = image_folder(c0=9, c1=9)
    bad = folder / "c1" / "000.png"
    bad.write_bytes(b"\x89PNG broken")
    assert cli(["eval", str(sqz), str(folder)]) == 0
    error = capsys.readouterr().err
    assert f"skipped {bad}: not a readable image" in error
    assert "1 image could not be read and was skipped" in error
    line = failure(capsys, 1, "eval", sqz, folder, "--strict")
    assert f"{bad}: not a readable image" in line
    assert str(bad) in failure(capsys, 1, "predict", sqz, folder, "--strict")
    arguments = [*train(folder, tmp_path / "run"), "--epochs", 2, "--workers", 0]
    assert str(bad) in failure(capsys, 1, *arguments, "--strict")
    assert cli([str(a) for a in arguments]) == 0
    assert "1 image could not be read and was skipped" in capsys.readouterr().err


def test_no_image_can_be_read(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    assert "none of the images could be read" in failure(capsys, 1, "predict", sqz, bad)
    assert "no such file" not in failure(capsys, 2, "predict", sqz)
    assert "absent.jpg: no such file" in failure(capsys, 2, "predict", tmp_path / "absent.jpg")
    assert "no file matches" in failure(capsys, 2, "predict", sqz, tmp_path / "*.gif")


def test_more_classes_than_the_model_has(
    capsys: Capture, image_folder: Callable[..., Path], sqz: Path
) -> None:
    folder = image_folder(**{f"c{i}": 1 for i in range(11)})
    line = failure(capsys, 1, "eval", sqz, folder)
    assert "class 'c10' is not one of the model's 10 classes" in line


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


def test_unknown_architecture(capsys: Capture, tmp_path: Path) -> None:
    line = failure(capsys, 2, "train", "digits", "--arch", "resnet50", "--out", tmp_path / "run")
    assert "unknown architecture 'resnet50'; expected one of squeezenet1_0" in line
    assert "neither a file" in failure(capsys, 2, "info", "resnet50")
    assert "unknown recipe 'best'" in failure(
        capsys, 2, "train", "digits", "--arch", "squeezenet_tiny", "--recipe", "best", "--out", "x"
    )
    assert "give --arch NAME" in failure(capsys, 2, "train", "digits", "--out", tmp_path / "run")


def test_run_folder_of_another_architecture(capsys: Capture, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["train", "digits", "--out", run, "--max-steps", 2, "--device", "cpu"]
    assert cli([str(a) for a in [*arguments, "--arch", "squeezenet_tiny"]]) == 0
    weights = (run / "best.safetensors").read_bytes()
    line = failure(capsys, 1, *arguments, "--arch", "squeezenet1_1", "--input-channels", 1)
    assert 'holds a run with architecture "squeezenet_tiny"' in line
    assert 'this one has "squeezenet1_1"' in line
    assert (run / "best.safetensors").read_bytes() == weights
    line = failure(capsys, 1, *arguments, "--from", run, "--arch", "squeezenet1_1")
    assert "is squeezenet_tiny, --arch says squeezenet1_1" in line


def test_missing_extra(
    capsys: Capture, tmp_path: Path, sqz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    for arguments in (
        ["train", "digits", "--arch", "squeezenet_tiny", "--out", tmp_path / "run"],
        ["compress", sqz, "--data", "digits", "--out", tmp_path / "x.sqz"],
        ["convert", sqz, tmp_path / "x.safetensors"],
        ["eval", sqz, "digits"],
        ["demo", "--out", tmp_path / "demo"],
    ):
        line = failure(capsys, 1, *arguments)
        assert "pip install 'sqznet[train]'" in line


def test_wrong_use(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    """What is wrong is named."""
    small = ["train", "digits", "--arch", "squeezenet_tiny", "--out", "x"]
    compress = ["compress", sqz, "--out", tmp_path / "x.sqz"]
    for named, arguments in (
        ('Unknown command "nonsense"', ["nonsense"]),
        ("ARCH_OR_MODEL requires", ["info"]),
        ("Unknown option: --nonsense", ["info", sqz, "--nonsense"]),
        ("none.sqz: no such file", ["eval", tmp_path / "none.sqz", "digits"]),
        ("ending '.onnx', expected", ["convert", sqz, tmp_path / "x.onnx"]),
        ("does not exist; make it first", ["convert", sqz, tmp_path / "none" / "x.sqz"]),
        ("give either --data DATA", compress),
        ("--layer-density 'a', expected", [*compress, "--data", "digits", "--layer-density", "a"]),
        ("unknown option --nonsense", ["predict", sqz, "--nonsense"]),
        ("--min-probability 2.0", ["predict", sqz, sqz, "--min-probability", "2"]),
        ("--val-fraction 1.0, expected", [*small, "--val-fraction", "1"]),
        ("--device abacus: not usable", [*small, "--device", "abacus"]),
        ("Invalid value for --epochs", [*small, "--epochs", "many"]),
        ("--seed -1, expected", [*small, "--seed", "-1"]),
        ("--new-head is for --from", [*small, "--new-head"]),
        (
            "are of the model that --from names",
            ["train", "digits", "--from", sqz, "--out", "x", "--input-size", "8"],
        ),
        ('Invalid value "all" for --split', ["eval", sqz, "digits", "--split", "all"]),
        ("no published weights 'nothing'", ["fetch", "nothing"]),
    ):
        assert named in failure(capsys, 2, *arguments)


def test_lossy_conversion(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(torchvision_state("squeezenet1_1"), path)
    line = failure(capsys, 1, "convert", path, tmp_path / "x.sqz")
    assert "conv1: over 255 different weights" in line and "squeezenet compress" in line


def test_unknown_content(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "x.sqz"
    path.write_bytes(b"hello, I am a text" * 100)
    assert "not a model that squeezenet knows" in failure(capsys, 1, "info", path)
    (tmp_path / "folder").mkdir()
    assert "no best.safetensors inside" in failure(capsys, 2, "info", tmp_path / "folder")


def test_unwritable_places(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc, which nobody can write")
    line = failure(capsys, 1, "train", "digits", "--arch", "squeezenet_tiny", "--out", "/proc/run")
    assert "/proc/run: cannot be written" in line
    failure(capsys, 1, "convert", sqz, "/proc/x.sqz")


def test_output_that_is_the_input(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    before = sqz.read_bytes()
    data = ["--data", "digits"]
    assert "is the model itself" in failure(capsys, 2, "compress", sqz, "--out", sqz, *data)
    assert "is the model itself" in failure(capsys, 2, "convert", sqz, sqz)
    line = failure(capsys, 2, "compress", sqz, "--out", tmp_path / "x.safetensors", *data)
    assert "expected .sqz" in line
    assert sqz.read_bytes() == before


def test_numbers_that_make_no_sense(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    train = ["train", "digits", "--arch", "squeezenet_tiny", "--out", tmp_path / "run"]
    for option in (
        ["--epochs", "0"], ["--batch-size", "0"], ["--learning-rate", "nan"], ["--threads", "0"],
        ["--input-size", "0"], ["--input-channels", "2"], ["--workers", "-3"],
        ["--device", "meta"], ["--checkpoint-every", "nan"], ["--epochs", "1", "--max-steps", "1"],
    ):  # fmt: skip
        assert _named(option[-2]) in _named(failure(capsys, 2, *train, *option))
    compress = ["compress", sqz, "--out", tmp_path / "x.sqz", "--data", "digits"]
    paper = ["--method", "deep-compression"]
    for option in (
        [*paper, "--bits", "9"], [*paper, "--scan-budget", "nan"], ["--max-drop", "nan"],
        ["--divergence", "nan"], ["--effort", "some"], ["--target-bytes", "0"],
        ["--checkpoint-every", "-1"],
    ):  # fmt: skip
        assert _named(option[-2]) in _named(failure(capsys, 2, *compress, *option))
    line = failure(capsys, 2, *compress, "--layer-density", "conv1=0.5")
    assert "--layer-density belongs to --method deep-compression" in line
    line = failure(capsys, 2, *compress, *paper, "--effort", "low")
    assert "--effort belongs to --method rd" in line
    assert not (tmp_path / "run").exists()


def _named(text: str) -> str:
    """An option as an error may write it: ``--scan-budget`` is a scan budget, or scan_budget."""
    return text.replace("-", " ").replace("_", " ").strip()


def test_names_with_control_characters(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad\nsqueezenet: all is well\x1b[31m.png"
    bad.write_bytes(b"x")
    assert cli(["predict", str(sqz), str(bad)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("skipped ")
    assert r"bad\nsqueezenet: all is well\x1b[31m.png: not a readable image" in lines[0]
    assert lines[-1] == "squeezenet: none of the images could be read; see the messages above"
    assert "\x1b" not in "".join(lines)


def test_network_that_answers_nonsense(
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


def test_termination_outside_of_training(sqz: Path) -> None:
    """SIGTERM and SIGINT end any command with one line and 143 or 130."""
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with subprocess.Popen(  # nothing is ever written to its input: predict waits
            [sys.executable, "-m", "squeezenet", "predict", str(sqz), "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            time.sleep(3)
            process.send_signal(number)
            assert process.stderr is not None
            stderr = process.stderr.read()
            process.wait(30)
        assert process.returncode == code
        assert len(stderr.strip().splitlines()) == 1 and stderr.startswith("squeezenet: ")
