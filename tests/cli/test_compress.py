"""``compress``: options that do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.cli.running import Capture, failure, option_in_words


def test_output_that_is_the_input(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    before = sqz.read_bytes()
    data = ["--data", "digits"]
    assert "is the model itself" in failure(capsys, 2, "compress", sqz, "--out", sqz, *data)
    assert "is the model itself" in failure(capsys, 2, "convert", sqz, sqz)
    line = failure(capsys, 2, "compress", sqz, "--out", tmp_path / "x.safetensors", *data)
    assert "expected .sqz" in line
    assert sqz.read_bytes() == before


def test_wrong_use(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    compress = ["compress", sqz, "--out", tmp_path / "x.sqz"]
    assert "give either --data DATA" in failure(capsys, 2, *compress)
    compress += ["--data", "digits"]
    paper = ["--method", "deep-compression"]
    line = failure(capsys, 2, *compress, *paper, "--layer-density", "a")
    assert "--layer-density 'a', expected" in line
    line = failure(capsys, 2, *compress, *paper, "--layer-bits", "conv1=x")
    assert "--layer-bits 'conv1=x', expected LAYER=BITS" in line
    line = failure(capsys, 2, *compress, "--layer-bits", "conv1=8")
    assert "--layer-bits belongs to --method deep-compression" in line
    line = failure(capsys, 2, *compress, "--layer-density", "conv1=0.5")
    assert "--layer-density belongs to --method deep-compression" in line
    line = failure(capsys, 2, *compress, *paper, "--effort", "low")
    assert "--effort belongs to --method rd" in line


def test_calibration_folders(
    capsys: Capture, sqz: Path, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    compress = ["compress", sqz, "--out", tmp_path / "x.sqz", "--calib", "digits"]
    line = failure(capsys, 2, *compress, "--calib", tmp_path / "none")
    assert "none: no such folder" in line
    one = image_folder(tmp_path / "one", a=1)
    line = failure(capsys, 2, *compress[:4], "--calib", one)
    assert "one: only 1 image, expected some hundreds" in line
    (tmp_path / "empty").mkdir()
    assert "empty: " in failure(capsys, 1, *compress, "--calib", tmp_path / "empty")


def test_numbers_that_make_no_sense(capsys: Capture, sqz: Path, tmp_path: Path) -> None:
    compress = ["compress", sqz, "--out", tmp_path / "x.sqz", "--data", "digits"]
    paper = ["--method", "deep-compression"]
    for option in (
        [*paper, "--bits", "9"], [*paper, "--scan-budget", "nan"], ["--max-drop", "nan"],
        ["--divergence", "nan"], ["--effort", "some"], ["--target-bytes", "0"],
        ["--checkpoint-every", "-1"],
    ):  # fmt: skip
        line = failure(capsys, 2, *compress, *option)
        assert option_in_words(option[-2]) in option_in_words(line)


def test_targets_out_of_reach(
    capsys: Capture, sqz: Path, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    """They are refused before any work, with the least value that makes sense."""
    out = tmp_path / "x.sqz"
    compress = ["compress", sqz, "--out", out, "--calib", image_folder(a=20, b=20)]
    for method in ("rd", "deep-compression"):
        line = failure(capsys, 2, *compress, "--method", method, "--target-bytes", "500")
        found = re.search(
            r"--target-bytes 500: the class names, record and scales alone take ([\d,]+) bytes; "
            "expected more",
            line,
        )
        assert found and 500 < int(found[1].replace(",", "")) < 2000
        line = failure(capsys, 2, *compress, "--method", method, "--max-drop", "0.1")
        assert line == (
            "squeezenet: --max-drop 0.1: one of the 8 images measured is worth 12.50 points; "
            "expected 0 or at least 12.50"
        )
    assert not out.exists() and not out.with_name("x.sqz.work").exists()
