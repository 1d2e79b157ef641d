"""``train`` on wrong input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from squeezenet.cli.app import run as cli
from tests.cli.running import Capture, failure, option_in_words, train_arguments


def test_one_class_only(capsys: Capture, tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    line = failure(capsys, 1, *train_arguments(image_folder(cat=5), tmp_path / "run"))
    assert "only one class, 'cat'; a classifier needs two class folders or more" in line


def test_unknown_architecture(capsys: Capture, tmp_path: Path) -> None:
    line = failure(capsys, 2, "train", "digits", "--arch", "resnet50", "--out", tmp_path / "run")
    assert "unknown architecture 'resnet50'; expected one of squeezenet1_0" in line
    assert "neither a file" in failure(capsys, 2, "info", "resnet50")
    assert "unknown recipe 'best'" in failure(
        capsys, 2, "train", "digits", "--arch", "squeezenet_tiny", "--recipe", "best", "--out", "x"
    )


def test_wrong_use(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    """What is wrong is named."""
    small = ["train", "digits", "--arch", "squeezenet_tiny", "--out", "x"]
    for named, arguments in (
        ("--val-fraction 1.0, expected", [*small, "--val-fraction", "1"]),
        ("--device abacus: not usable", [*small, "--device", "abacus"]),
        ("train: --epochs many, expected a whole number", [*small, "--epochs", "many"]),
        ("--seed -1, expected", [*small, "--seed", "-1"]),
        ("--new-head is for --from", [*small, "--new-head"]),
        (
            "are of the model that --from names",
            ["train", "digits", "--from", sqz, "--out", "x", "--input-size", "8"],
        ),
    ):
        assert named in failure(capsys, 2, *arguments)


def test_numbers_that_make_no_sense(capsys: Capture, tmp_path: Path) -> None:
    train = ["train", "digits", "--arch", "squeezenet_tiny", "--out", tmp_path / "run"]
    for option in (
        ["--epochs", "0"], ["--batch-size", "0"], ["--learning-rate", "nan"], ["--threads", "0"],
        ["--input-size", "0"], ["--input-channels", "2"], ["--workers", "-3"],
        ["--device", "meta"], ["--checkpoint-every", "nan"], ["--epochs", "1", "--max-steps", "1"],
    ):  # fmt: skip
        line = failure(capsys, 2, *train, *option)
        assert option_in_words(option[-2]) in option_in_words(line)
    assert not (tmp_path / "run").exists()


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
