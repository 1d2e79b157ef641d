"""Running a command in this process, and what it must or must not print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli

Capture = pytest.CaptureFixture[str]


def output(capsys: Capture, *arguments: object) -> str:
    """Run a command that must succeed; return its stdout."""
    code = cli([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def as_json(capsys: Capture, *arguments: object) -> dict[str, object]:
    result = json.loads(output(capsys, *arguments, "--json"))
    assert isinstance(result, dict)
    return result


def failure(capsys: Capture, code: int, *arguments: object) -> str:
    """Run a command that must fail with this exit code; return its one line."""
    capsys.readouterr()
    assert cli([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err and "internal error" not in captured.err
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("squeezenet: ")
    for line in lines[:-1]:  # what could not be read, or was not, and which network predicted
        assert "skipped" in line or "; not read: " in line or line.startswith("no model given: ")
    return lines[-1]


def train_arguments(data: object, out: Path) -> list[object]:
    return ["train", data, "--arch", "squeezenet1_1", "--out", out, "--device", "cpu"]


def option_in_words(text: str) -> str:
    """An option as an error may write it: ``--scan-budget`` is a scan budget, or scan_budget."""
    return text.replace("-", " ").replace("_", " ").strip()
