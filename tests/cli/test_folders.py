"""What commands do to folders and files of the user: nothing without being asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from squeezenet.output_folder import SUMS
from tests.cli.running import Capture, as_json, failure

TRAIN = ["--arch", "squeezenet_tiny", "--max-steps", "1", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def cifar(image_folder: Callable[..., Path]) -> Path:
    """Pictures of two classes of the network that comes with the package."""
    return image_folder(cat=3, dog=3)


def command_of(name: str, data: Path, out: Path) -> list[object]:
    return {
        "train": ["train", data, "--out", out, *TRAIN],
        "report": ["report", "default", data, "--out", out],
        "export": ["export", "default", "--to", "c", "--out", out],
        "demo": ["demo", "--out", out],
    }[name]


def contents(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", ["train", "report", "export", "demo"])
@pytest.mark.parametrize("file", ["thesis.txt", ".notes.tmp", "MODEL_CARD.md", "Makefile"])
def test_folders_of_the_user_are_refused_to_the_byte(
    capsys: Capture, tmp_path: Path, cifar: Path, name: str, file: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / file).write_text("mine")
    before = out.stat().st_mtime_ns
    line = failure(capsys, 2, *command_of(name, cifar, out))
    assert str(out) in line and ("is not empty" in line or "exists already" in line)
    assert contents(out) == {file: b"mine"} and out.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["train", "report", "export", "demo"])
@pytest.mark.parametrize("kind", ["file", "dangling link", "link to a file"])
def test_what_is_no_folder_is_refused(
    capsys: Capture, tmp_path: Path, cifar: Path, name: str, kind: str
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    (home / "file").write_text("mine")
    if kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(home / ("missing" if kind == "dangling link" else "file"))
    line = failure(capsys, 2, *command_of(name, cifar, out))
    assert str(out) in line
    assert contents(home) == {"file": b"mine"}


@pytest.mark.parametrize("name", ["report", "export"])
def test_results_can_be_written_again_unless_edited(
    capsys: Capture, tmp_path: Path, cifar: Path, name: str
) -> None:
    out = tmp_path / "out"
    first = as_json(capsys, *command_of(name, cifar, out))
    (out / "beside.txt").write_text("mine")
    before = contents(out)
    assert as_json(capsys, *command_of(name, cifar, out)) == first
    assert contents(out) == before
    file = out / ("MODEL_CARD.md" if name == "report" else "main.c")
    file.write_text("edited")
    line = failure(capsys, 2, *command_of(name, cifar, out))
    assert f"{file}: was written or changed by somebody else" in line
    assert file.read_text() == "edited"
    file.unlink()
    (tmp_path / "precious").write_text("mine")
    file.symlink_to(tmp_path / "precious")
    line = failure(capsys, 2, *command_of(name, cifar, out))
    assert f"{file}: is a link" in line and (tmp_path / "precious").read_text() == "mine"


def test_a_report_inside_a_run_is_the_runs(capsys: Capture, tmp_path: Path, cifar: Path) -> None:
    run = tmp_path / "run"
    as_json(capsys, *command_of("train", cifar, run))
    report = run / "report"
    (report / SUMS).unlink()  # as of an earlier version
    as_json(capsys, "report", run, cifar, "--out", report)
    assert (report / SUMS).is_file()
    # A card that was edited stays, and costs the run nothing.
    (report / "MODEL_CARD.md").write_text("edited")
    longer = [str(word) for word in command_of("train", cifar, run)]
    longer[longer.index("--max-steps") + 1] = "2"
    assert cli(longer) == 0
    error = capsys.readouterr().err
    assert "no report: " in error and "changed by somebody else" in error
    assert (report / "MODEL_CARD.md").read_text() == "edited"


@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_an_output_file_replaces_a_link_and_not_its_target(
    capsys: Capture, tmp_path: Path, sqz: Path, kind: str
) -> None:
    home, out = tmp_path / "home", tmp_path / "out.sqz"
    home.mkdir()
    (home / "file").write_text("mine")
    out.symlink_to(home / ("file" if kind == "link" else "missing"))
    as_json(capsys, "convert", sqz, out)
    assert not out.is_symlink() and out.read_bytes()[:4] == sqz.read_bytes()[:4]
    assert contents(home) == {"file": b"mine"}


def test_the_default_run_folder_follows_the_same_rules(
    capsys: Capture, tmp_path: Path, cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", cifar, *TRAIN]
    (tmp_path / "runs").write_text("mine")
    assert cli([*map(str, command)]) == 1
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "runs").unlink()
    (tmp_path / "runs" / cifar.name).mkdir(parents=True)
    (tmp_path / "runs" / cifar.name / "thesis.txt").write_text("mine")
    assert cli([*map(str, command)]) == 2
    assert contents(tmp_path / "runs") == {cifar.name: False, f"{cifar.name}/thesis.txt": b"mine"}
    shutil.rmtree(tmp_path / "runs")
    assert cli([*map(str, command)]) == 0
