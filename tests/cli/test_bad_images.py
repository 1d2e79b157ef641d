"""Folders and images that cannot be used, by every command that reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from squeezenet.cli.app import run as cli
from tests.cli.running import Capture, failure, train_arguments


def test_empty_folder(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no class folders inside" in failure(
        capsys, 1, *train_arguments(empty, tmp_path / "run")
    )
    assert "no class folders inside" in failure(capsys, 1, "eval", sqz, empty)
    assert "no images inside" in failure(capsys, 1, "predict", sqz, empty)
    assert not (tmp_path / "run").exists()


def test_a_class_without_images(
    capsys: Capture, tmp_path: Path, image_folder: Callable[..., Path], sqz: Path
) -> None:
    folder = image_folder(c0=5, c1=5)
    (folder / "c2").mkdir()
    assert "class 'c2' has no images" in failure(
        capsys, 1, *train_arguments(folder, tmp_path / "run")
    )
    # Evaluation needs no picture of each class: it says so and goes on.
    assert cli(["eval", str(sqz), str(folder)]) == 0
    assert "no images in 1 of 3 classes (c2/)" in capsys.readouterr().err


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
    arguments = [*train_arguments(folder, tmp_path / "run"), "--epochs", 2, "--workers", 0]
    assert str(bad) in failure(capsys, 1, *arguments, "--strict")
    assert cli([str(a) for a in arguments]) == 0
    assert "1 image could not be read and was skipped" in capsys.readouterr().err
