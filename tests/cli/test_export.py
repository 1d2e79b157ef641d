"""``export``: what it writes and refuses; the exported program itself is in ``tests/export``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.running import Capture, as_json, failure


def test_the_word_default(capsys: Capture, tmp_path: Path) -> None:
    files = as_json(capsys, "export", "default", "--to", "c", "--out", tmp_path / "c")["files"]
    assert isinstance(files, dict) and "Makefile" in files
    assert sorted(files) == sorted(path.name for path in (tmp_path / "c").iterdir())


def test_wrong_use(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    export = ["export", sqz, "--to", "c", "--out"]
    line = failure(capsys, 2, *export, tmp_path / "full")
    assert "exists already, expected a new or empty folder" in line
    other = tmp_path / "x.safetensors"
    as_json(capsys, "convert", sqz, other)
    line = failure(capsys, 2, "export", other, "--to", "c", "--out", tmp_path / "c")
    assert "not a .sqz file; squeezenet compress makes one" in line
