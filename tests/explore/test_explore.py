"""``squeezenet explore``: a small study from data to its report."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import squeezenet
from squeezenet.cli.app import run as cli
from squeezenet.codec.model_kinds import find_model
from squeezenet.errors import StudyError, UnknownNameError, UsageError
from squeezenet.explore.storage import sqlite_url
from squeezenet.explore.study import Study
from tests.cli.running import Capture, as_json, failure, output

SMALL = (
    "--arch", "squeezenet_tiny", "--base-e", 8, "--incr-e", 8, "--epochs", 1,
    "--train-images", 100,
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two networks with two seeds."""
    out = tmp_path_factory.mktemp("explored") / "bypass study"
    words = ["explore", "bypass", "digits", "--out", out, *SMALL, "--values", "none,complex"]
    assert cli([str(word) for word in [*words, "--seeds", 2]]) == 0
    return out


def again(study: Path, *more: object) -> list[object]:
    return ["explore", "bypass", "digits", "--out", study, *SMALL, *more]


def test_a_study_has_run_folders_and_a_report(study: Path, capsys: Capture) -> None:
    found = as_json(capsys, *again(study, "--values", "none,complex", "--seeds", 2))
    networks: Any = found["networks"]
    trials: Any = found["trials"]
    assert [network["label"] for network in networks] == ["none", "complex"]
    assert [network["top1"]["count"] for network in networks] == [2, 2]
    assert networks[0]["measures"]["macs"] < networks[1]["measures"]["macs"]
    assert {trial["state"] for trial in trials} == {"done"} and len(trials) == 4
    run = study / "trials" / "bypass-complex-seed1"
    assert find_model(run).path.name == "best.safetensors"
    measured = as_json(capsys, "eval", run, "digits")
    assert measured["top1"] == trials[3]["measures"]["top1"]
    assert found["measured_on"] == "digits, its part test/"


def test_its_report_needs_nothing_else(study: Path) -> None:
    report = study / "report"
    page = (report / "study.html").read_text()
    assert "default-src 'none'" in page and "script-src 'sha256-" in page
    assert not re.search(r"https?://", page)
    assert "squeezenet explore bypass digits --out" in page
    with (report / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows][:2] == ["bypass-none-seed0", "bypass-complex-seed0"]
    assert all(0 <= float(row["top1"]) <= 100 for row in rows)
    for name in ("size.png", "size.svg", "value.png", "value.svg"):
        assert (report / name).stat().st_size > 1000


def test_more_values_and_seeds_go_on_with_a_study(study: Path, capsys: Capture) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("trials/*/result.json")}
    found = as_json(capsys, *again(study, "--seeds", 1))
    trials: Any = found["trials"]
    assert len(trials) == 5 and trials[-1]["name"] == "bypass-simple-seed0"
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_another_study_in_the_folder_is_refused(study: Path, capsys: Capture) -> None:
    line = failure(capsys, 1, "explore", "sr", "digits", "--out", study, *SMALL)
    assert "holds a study with sweep bypass, this one has sr; choose another --out" in line
    line = failure(capsys, 1, *again(study, "--batch-size", 8))
    assert "holds a study with training.batch_size None, this one has 8" in line
    line = failure(capsys, 1, *again(study, "--join", "--batch-size", 8))
    assert "training.batch_size None, this one has 8" in line


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["srr", "digits"], 2, "unknown study 'srr'; expected one of sr, pct3x3, bypass"),
        (["sr", "digits", "--squeeze-ratio", "0.5"], 2, "is what the sweep sr changes"),
        (["sr", "digits", "--seeds", "0"], 2, "--seeds 0, expected 1 to 1000"),
        (["sr", "digits", "--jobs", "0"], 2, "--jobs 0, expected 1 to 256"),
        (["sr", "digits", "--values", "0.5,7"], 2, "sr 7: family: squeeze ratio is 7.0"),
        (["sr", "digits", "--arch", "alexnet"], 2, "--arch alexnet: is no SqueezeNet"),
        (["sr", "digits", "--arch", "resnet"], 2, "unknown architecture 'resnet'"),
        (["sr", "digits", "--recipe", "mine"], 2, "unknown recipe 'mine'"),
        (["sr", "digits", "--train-images", "9"], 2, "expected 10 (one per class) to 1,"),
        (["sr", "nowhere"], 2, "nowhere"),
        (["sr", "digits", "--join"], 1, "has no study to join"),
        (["sr", "digits", "--storage", "postgres:"], 2, "is no URL of a database"),
    ],
)
def test_one_clear_line(
    tmp_path: Path, capsys: Capture, words: list[str], code: int, message: str
) -> None:
    out = tmp_path / "new"
    assert message in failure(capsys, code, "explore", *words, "--out", out)
    assert not (out / "trials").exists()


def test_the_study_of_others_in_a_shared_database_is_not_taken_over(
    tmp_path: Path, capsys: Capture
) -> None:
    url = sqlite_url(tmp_path / "shared.db")
    with Study.create(url, "study", {"sweep": "sr"}, known=False):
        pass
    for _ in range(2):  # the first refusal must leave nothing that looks like a study of ours
        line = failure(
            capsys, 1, "explore", "sr", "digits", "--storage", url, "--out", tmp_path / "study"
        )
        assert "has a study 'study' already; add --join" in line


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    line = failure(capsys, 2, "explore", "sr", "digits", "--out", tmp_path)
    assert "is not empty and holds no study" in line
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_trials_that_fail_are_told_at_the_end(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "study"
    (out / "trials" / "sr-1-seed0").mkdir(parents=True)
    (out / "trials").rename(tmp_path / "trials")
    out.rmdir()
    # The run folder of one trial is taken by something else.
    words = ["explore", "sr", "digits", "--out", out, *SMALL, "--values", "0.5,1", "--seeds", 1]
    (tmp_path / "trials" / "sr-1-seed0" / "file").write_text("not a run")
    started = subprocess.Popen(
        [sys.executable, "-m", "squeezenet", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "study.json").exists():
        assert started.poll() is None
    (tmp_path / "trials").rename(out / "trials")
    shown, errors = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "1 of 2 trials failed (sr-1-seed0: " in errors and "holds no run" in errors
    assert "1 trials; " in shown
    assert "failed" in (out / "report" / "trials.csv").read_text()
    (out / "trials" / "sr-1-seed0" / "file").unlink()
    assert "2 trials; " in output(capsys, *words)


def test_from_python(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown study"):
        squeezenet.explore("srr", "digits", out=tmp_path / "study")
    with pytest.raises(UsageError, match="'3.5' is no value of freq"):
        squeezenet.explore("freq", "digits", out=tmp_path / "study", values=[3.5])
    with pytest.raises(StudyError, match="has no study to join"):
        squeezenet.explore("freq", "digits", out=tmp_path / "study", join=True)


def test_results_are_json(study: Path) -> None:
    settings = json.loads((study / "study.json").read_text())
    assert settings["sweep"] == "bypass"
    assert settings["training"] == {"epochs": 1, "train_images": 100}
