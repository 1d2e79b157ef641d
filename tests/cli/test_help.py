"""Help, version, and where a wrong command line is pointed to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from squeezenet.cli.app import COMMANDS, run
from tests.cli.running import Capture, failure, output


def test_help_and_version(capsys: Capture) -> None:
    text = output(capsys, "--help")
    assert output(capsys) == text
    assert output(capsys, "--version").strip() == "0.1.0"
    for command in COMMANDS:
        assert "Usage" in output(capsys, command, "--help")


def test_help_says_what_each_command_does(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of use, a line each at 80 columns, after the whole journey in three lines."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip("│ ") for line in output(capsys, "--help").splitlines()]
    places = [
        next(i for i, line in enumerate(lines) if line.split() == [name, *command.summary.split()])
        for name, command in COMMANDS.items()
    ]
    assert places == list(range(places[0], places[0] + len(COMMANDS)))
    assert list(COMMANDS) == [
        "train", "compress", "predict", "eval", "report", "card", "info", "export", "serve",
        "convert", "shard", "explore", "fetch", "demo",
    ]  # fmt: skip
    journey = [COMMANDS[name].example for name in ("train", "compress", "predict")]
    start = lines.index(journey[0])
    assert lines[start : start + 3] == journey and start < places[0]


def test_help_of_compress_has_groups(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = output(capsys, "compress", "--help")
    titles = [line.split()[1:-1] for line in text.splitlines() if line.startswith("╭")]
    assert [" ".join(title).rstrip("─ ") for title in titles] == [
        "Arguments", "Common", "Method rd", "Method deep-compression", "Running",
    ]  # fmt: skip
    assert "None" not in text and "False" not in text


@pytest.mark.parametrize("arguments", [["--help"], [], ["train", "--help"], ["nonsense"]])
def test_help_and_errors_start_without_torch(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from squeezenet.cli.app import run\n"
        f"run({arguments!r})\n"
        "print([name for name in ('torch', 'sklearn', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_parser_errors_point_to_the_help_of_the_command(capsys: Capture, sqz: Path) -> None:
    for expected, arguments in (
        ("unknown command trian; did you mean train? see squeezenet --help", ["trian"]),
        ("unknown command xyz; see squeezenet --help", ["xyz", "a"]),
        (
            "train: unknown option --epohcs; did you mean --epochs? see squeezenet train --help",
            ["train", "digits", "--out", "x", "--epohcs", "3"],
        ),
        (
            "info: unknown option --nonsense; see squeezenet info --help",
            ["info", sqz, "--nonsense"],
        ),
        (
            "predict: unknown option --tpo; did you mean --top? see squeezenet predict --help",
            ["predict", "--tpo=2", sqz],
        ),
        ("info: ARCH_OR_MODEL is missing; see squeezenet info --help", ["info"]),
        ("compress: --out is missing; see squeezenet compress --help", ["compress", sqz]),
        (
            "compress: --out needs a value; see squeezenet compress --help",
            ["compress", sqz, "--out"],
        ),
        (
            "eval: --split all, expected train, val or test; see squeezenet eval --help",
            ["eval", sqz, "digits", "--split", "all"],
        ),
        (
            "compress: --bits six, expected a whole number; see squeezenet compress --help",
            ["compress", sqz, "--out", "x.sqz", "--bits", "six"],
        ),
        (
            "compress: --density half, expected a number; see squeezenet compress --help",
            ["compress", sqz, "--out", "x.sqz", "--density", "half"],
        ),
        (
            "compress: --out is given twice; see squeezenet compress --help",
            ["compress", sqz, "--out", "x.sqz", "--out", "y.sqz"],
        ),
        ("info: unexpected argument b; see squeezenet info --help", ["info", sqz, "b"]),
        (
            "no image given; expected files, folders, globs, or - for stdin; "
            "see squeezenet predict --help",
            ["predict"],
        ),
    ):
        assert failure(capsys, 2, *arguments) == f"squeezenet: {expected}"


def test_an_unknown_option_of_the_whole(capsys: Capture) -> None:
    assert run(["--nonsense"]) == 2
    assert capsys.readouterr().err == (
        "squeezenet: unknown option --nonsense; see squeezenet --help\n"
    )
