"""``squeezenet.train`` and ``squeezenet.compress``: what the commands do, as functions."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import squeezenet
from squeezenet.api.compress import for_few_images
from squeezenet.cli.app import run as cli
from squeezenet.cli.compress import compress as compress_command
from squeezenet.cli.train import train as train_command
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import CheckpointError, QualityError, UsageError
from squeezenet.progress import SilentProgress
from squeezenet.sealed_files import read_sealed_json

SHORT: dict[str, Any] = {"arch": "squeezenet_tiny", "device": "cpu", "precision": "float32"}


class Said(SilentProgress):
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> squeezenet.TrainResult:
    out = tmp_path_factory.mktemp("api") / "run"
    return squeezenet.train("digits", out=out, epochs=1, **SHORT)


def test_the_result_of_a_training(trained: squeezenet.TrainResult) -> None:
    written = read_sealed_json(trained.out / "result.json")
    assert written is not None
    assert {name: getattr(trained, name) for name in written} == written
    assert trained.skipped == 0 and trained.classes == 10 and trained.train_images == 1167
    assert trained.weights.is_file()
    assert trained.report is not None and any(trained.report.iterdir())


def test_the_command_is_the_function(
    trained: squeezenet.TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights, byte for byte, and the same figures."""
    command = ["train", "digits", "--arch", "squeezenet_tiny", "--epochs", "1", "--json"]
    command += ["--device", "cpu", "--precision", "float32", "--out", str(tmp_path / "run")]
    assert cli(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["best_top1"] == pytest.approx(trained.best_top1, abs=1e-4)
    assert printed["out"] == str(tmp_path / "run") and printed["skipped"] == 0
    assert (tmp_path / "run" / trained.weights.name).read_bytes() == trained.weights.read_bytes()


def test_a_finished_run_is_not_run_again(trained: squeezenet.TrainResult) -> None:
    said = Said()
    again = squeezenet.train("digits", out=trained.out, epochs=1, progress=said, **SHORT)
    assert again == trained
    assert said.lines == [
        f"{trained.out}: this run is finished; a larger --epochs trains it longer"
    ]
    with pytest.raises(CheckpointError, match="holds a run with"):
        squeezenet.train("digits", out=trained.out, epochs=1, learning_rate=0.01, **SHORT)


def test_fine_tuning_without_a_report(
    trained: squeezenet.TrainResult, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    data = image_folder(a=12, b=12)
    (data / "a" / "bad.png").write_bytes(b"no image")
    said = Said()
    result = squeezenet.train(
        data,
        out=str(tmp_path / "tuned"),
        from_=trained.out,
        new_head=True,
        epochs=1,
        device="cpu",
        workers=0,
        report=False,
        progress=said,
    )
    assert result.classes == 2 and result.report is None and result.skipped == 1
    assert any("bad.png" in line for line in said.lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "squeezenet_tiny", "val_fraction": 1.0}, "--val-fraction 1.0, expected between"),
        ({"arch": "squeezenet_tiny", "seed": -1}, "--seed -1, expected 0 to 4294967295"),
        ({"arch": "squeezenet_tiny", "epochs": 1, "max_steps": 1}, "not both"),
        ({"arch": "squeezenet_tiny", "epochs": 0}, "epochs is 0, expected at least 1"),
        ({"arch": "squeezenet_tiny", "new_head": True}, "--new-head is for --from MODEL"),
    ],
)
def test_options_of_train_that_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        squeezenet.train("digits", out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "asked", "num_images", "divergence"),
    [
        (RateDistortionSettings(), None, 499, 0.01),
        (RateDistortionSettings(), None, 500, 0.07),
        (RateDistortionSettings(divergence=0.07), 0.07, 499, 0.07),
        (RateDistortionSettings(target_bytes=9000), None, 499, 0.07),
        (RateDistortionSettings(max_drop=1.0), None, 499, 0.07),
    ],
)
def test_few_images_ask_for_less_divergence(
    settings: RateDistortionSettings, asked: float | None, num_images: int, divergence: float
) -> None:
    said = Said()
    assert for_few_images(settings, asked, num_images, said).divergence == divergence
    assert said.lines == (
        ["499 images are few, so the default is --divergence 0.01"] if divergence == 0.01 else []
    )


@pytest.mark.parametrize("method", ["rd", "deep-compression"])
def test_compress(
    trained: squeezenet.TrainResult,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    method: Any,
) -> None:
    """The command writes the same file, and its JSON holds the report."""
    options: dict[str, Any] = {"method": method, "data": "digits", "device": "cpu"}
    if method == "rd":
        options |= {"effort": "low"}
    else:
        options |= {"density": 0.5, "prune_epochs": 1, "share_epochs": 0}
    out = tmp_path / "m.sqz"
    report = squeezenet.compress(str(trained.out), out=out, **options)
    assert report.file_bytes == out.stat().st_size and report.skipped == 0
    assert report.method == method and report.measured_labelled
    report.require_quality()
    command = ["compress", str(trained.out), "--out", str(tmp_path / "same.sqz"), "--json"]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    assert cli(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["file_bytes"] == report.file_bytes and printed["skipped"] == 0
    assert (tmp_path / "same.sqz").read_bytes() == out.read_bytes()
    assert squeezenet.open_model(out).classes == tuple("0123456789")


def test_quality_is_refused_when_asked(trained: squeezenet.TrainResult, tmp_path: Path) -> None:
    """The file is there all the same."""
    out = tmp_path / "m.sqz"
    report = squeezenet.compress(
        trained.out,
        out=out,
        method="deep-compression",
        calib="digits",
        layer_density={"conv1": 0.05},
        bits=2,
        prune_epochs=0,
        share_epochs=0,
        max_drop=0.0,
    )
    assert out.is_file() and report.drop > 0 and not report.measured_labelled
    with pytest.raises(QualityError, match="the file is written, but"):
        report.require_quality()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 4}, "--bits belongs to --method deep-compression, not to rd"),
        ({"layer_density": {"conv1": 0.5}}, "--layer-density belongs to --method deep-compression"),
        ({"method": "deep-compression", "effort": "low"}, "--effort belongs to --method rd"),
        ({"method": "zip"}, "--method zip, expected rd or deep-compression"),
        ({"target_bytes": 0}, "--target-bytes 0, expected 1 or more"),
        ({"max_drop": float("nan")}, "--max-drop nan, expected a number"),
        ({"data": None}, "give either --data DATA"),
        ({"workers": 1000}, "--workers 1000, expected 0 to 256"),
    ],
)
def test_options_of_compress_that_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        squeezenet.compress("default", **{"data": "digits", "out": tmp_path / "m.sqz"} | options)
    assert not (tmp_path / "m.sqz").exists()


@pytest.mark.parametrize(
    ("function", "command", "own"),
    [
        (squeezenet.train, train_command, {"progress", "report"}),
        (squeezenet.compress, compress_command, {"progress"}),
    ],
)
def test_every_option_of_a_command_is_an_argument(
    function: Callable[..., Any], command: Callable[..., Any], own: set[str]
) -> None:
    """Of the same name and with the same default; all but the first are keywords alone."""
    ours, theirs = (
        {p.name: p for p in inspect.signature(each).parameters.values()}
        for each in (function, command)
    )
    assert set(ours) - own == set(theirs) - {"json", "list_unused"}
    for name, parameter in theirs.items():
        if name not in ("json", "list_unused"):
            assert ours[name].default == parameter.default, name
    assert [p.kind for p in ours.values()][1:] == [inspect.Parameter.KEYWORD_ONLY] * (len(ours) - 1)
