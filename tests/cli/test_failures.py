"""Signals, and places that cannot be written: one line and an exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import Capture, failure


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


def test_unwritable_places(capsys: Capture, tmp_path: Path, sqz: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc, which nobody can write")
    line = failure(capsys, 1, "train", "digits", "--arch", "squeezenet_tiny", "--out", "/proc/run")
    assert "/proc/run: cannot be written" in line
    failure(capsys, 1, "convert", sqz, "/proc/x.sqz")
