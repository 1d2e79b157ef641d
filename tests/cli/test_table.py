"""On every terminal the answer is visible in full, and no line of a table wraps."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from squeezenet.cli.compress import show_report
from squeezenet.cli.table import Column, fact_lines, table_lines, text_lines
from squeezenet.cli.text import shorten_list, shorten_path, text_width
from squeezenet.client import Prediction
from squeezenet.compress.report import CompressionReport
from squeezenet.compress.stage_table import StageRow
from squeezenet.evaluation.metrics import Comparison
from squeezenet.model.published import PUBLISHED
from tests.conftest import REPOSITORY

WIDTHS = [40, 60, 80, 200]
LONG_LABEL = "Chesapeake Bay retriever x"[:25]
WIDE_LABEL = "日本の犬と猫と鳥"


class Terminal(io.StringIO):
    """What a command prints to a terminal of ``columns``."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def isatty(self) -> bool:
        return True

    def show(self, *arguments: object) -> None:
        """Run a command that must succeed, with this terminal as its stdout."""
        with contextlib.redirect_stdout(self):
            assert cli([str(argument) for argument in arguments]) == 0

    @property
    def lines(self) -> list[str]:
        return self.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()

    def line_with(self, *texts: str) -> str:
        """The line that holds all these texts."""
        found = [line for line in self.lines if all(text in line for text in texts)]
        assert found, f"no line with {texts} in:\n{self.getvalue()}"
        return found[0]


@pytest.fixture(params=WIDTHS)
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal; afterwards nothing that it got is wider than it."""
    terminal = Terminal(request.param)
    monkeypatch.setenv("COLUMNS", str(request.param))
    yield terminal
    assert terminal.lines
    for line in terminal.lines:
        assert text_width(line) <= terminal.columns, line


def test_predict(terminal: Terminal, sqz: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(a_class_of_quite_a_long_name=2)
    terminal.show("predict", sqz, folder)
    for name in ("000", "001"):
        line = terminal.line_with(name)
        assert "%" in line and any(f" c{i} " in line for i in range(10))
    if terminal.columns == 200:
        assert terminal.line_with("000.png").count("%") == 3


@pytest.mark.parametrize("label", [LONG_LABEL, WIDE_LABEL])
def test_label_and_probability_are_whole(
    terminal: Terminal,
    sqz: Path,
    image_folder: Callable[..., Path],
    label: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranked = [Prediction(label, None, 1.0), Prediction("runner-up", None, 0.1234)]
    monkeypatch.setattr(
        "squeezenet.cli.predict_images.open_predictor", lambda *_, **__: lambda image, top: ranked
    )
    terminal.show("predict", sqz, image_folder(a=1) / "a" / "000.png")
    assert terminal.line_with(label, "100.0%", "000")


def test_info_of_a_file(terminal: Terminal) -> None:
    terminal.show("info", "default")
    assert terminal.line_with("fire5/expand3x3", "14,971")
    assert terminal.line_with("fire5/expand3x3", "110,784")
    assert terminal.line_with("135,156")  # RAM; which is not cut in two


def test_info_of_an_architecture(terminal: Terminal) -> None:
    terminal.show("info", "squeezenet1_1")
    assert terminal.line_with("conv10", "513,000")
    assert terminal.line_with("1,235,496")


def test_eval(
    terminal: Terminal,
    sqz: Path,
    image_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sqz.parent)
    terminal.show("eval", sqz.name, image_folder(c0=3, c1=2), "--against", sqz.name)
    assert terminal.line_with("top-1", "%", "top-5")
    assert terminal.line_with("agreement 100.0%")


def test_fetch_list(terminal: Terminal) -> None:
    terminal.show("fetch")
    for name in PUBLISHED:
        assert terminal.line_with(name)


def test_report(
    terminal: Terminal,
    sqz: Path,
    image_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    folder = image_folder(c0=2, c1=2)
    monkeypatch.chdir(tmp_path)
    terminal.show("report", sqz, folder, "--out", "r")
    assert terminal.line_with("top-1", "%", "images")


@pytest.mark.parametrize("method", ["rd", "deep-compression"])
def test_compress(terminal: Terminal, method: str) -> None:
    stages = [
        StageRow(
            stage=stage,
            density=33.33,
            bits_per_weight=32.0,
            bits_per_gap=4.0,
            bytes=size,
            top1=57.25,
            top5=80.25,
        )
        for stage, size in (("float32", 243_860_896), ("pruned", 27_654_321), ("huffman", 987_654))
    ]
    comparison = Comparison(
        agreement=98.7654,
        kl=0.0123,
        top1_difference=-0.1,
        top1_standard_error=0.2,
        top5_difference=0.0,
        top5_standard_error=0.1,
    )
    report = CompressionReport(
        file_bytes=987_654,
        method=method,
        original_bytes=243_860_896,
        stages=tuple(stages),
        layers=(),
        comparison=comparison,
        measured_images=10_000,
        measured_labelled=True,
        max_drop=None,
        target_bytes=None,
    )
    with contextlib.redirect_stdout(terminal):
        show_report(report, Path("a.sqz"), as_json=False)
    for row in stages:
        assert terminal.line_with(row.stage, f"{row.bytes:,}", "57.25")
    assert terminal.line_with("98.8%") and terminal.line_with("0.0123")


@pytest.mark.parametrize("width", WIDTHS)
def test_predict_on_a_real_terminal(
    width: int, sqz: Path, image_folder: Callable[..., Path]
) -> None:
    """The width is asked of the terminal itself."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    image = image_folder(a_class_of_quite_a_long_name=1) / "a_class_of_quite_a_long_name/000.png"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-m", "squeezenet", "predict", str(sqz), str(image)],
        stdout=theirs,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment | {"NO_COLOR": "1"},
    ) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            text += part
    os.close(ours)
    head, line = text.decode().splitlines()
    assert process.returncode == 0 and head.split()[:2] == ["image", "label"]
    assert text_width(line) <= width and "000" in line and "%" in line
    assert (str(image) in line) == (len(str(image)) + 30 < width)


def test_a_pipe_gets_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert cli(["info", "default"]) == 0
    head = capsys.readouterr().out.splitlines()[1]
    assert head.split("  ")[-3:] == ["density %", "bits/weight", " bytes"]
    assert "activation bytes" in head


def test_what_goes_first() -> None:
    columns = [
        Column("path", rank=2, shorten="path", min_width=4),
        Column("answer"),
        Column("more", rank=3, shorten="list", min_width=8, optional=True),
    ]
    rows = [["folder/picture.jpg", 12_345, "cat 1%, dog 2%"]]
    shown = {width: table_lines(columns, rows, width)[1] for width in (50, 40, 30, 20, 14, 5)}
    assert shown == {
        50: " folder/picture.jpg  12,345  cat 1%, dog 2%",
        40: " folder/picture.jpg  12,345  cat 1%, …",
        30: " folder/picture.jpg  12,345",
        20: " …icture.jpg  12,345",
        14: " …ture  12,345",
        5: " …ure  12,345",
    }
    assert table_lines(columns, rows)[1] == shown[50]


def test_titles_are_shortened_before_cells() -> None:
    columns = [Column("a long title", rank=1), Column("answer")]
    assert table_lines(columns, [[1, 2]], 16) == [" a long…  answer", "       1       2"]


def test_empty_table() -> None:
    assert table_lines([Column("a"), Column("b")], []) == [" a  b"]


@pytest.mark.parametrize("width", range(1, 30))
def test_shortened_texts_fit(width: int) -> None:
    for text in (
        "folder/日本/写真の名前.jpeg",
        "folder/picture.jpg",
        "no_dot_and_no_slash_at_all",
        "",
    ):
        for shorten in (shorten_path, shorten_list):
            assert text_width(shorten(text, width)) <= width
    assert shorten_path("short", 5) == "short"


def test_paths_keep_what_tells_them_apart() -> None:
    assert shorten_path("holidays/2024/IMG_0042.jpg", 20) == "…/2024/IMG_0042.jpg"
    assert shorten_path("holidays/2024/IMG_0042.jpg", 10) == "…_0042.jpg"
    assert shorten_path("holidays/2024/IMG_0042.jpg", 5) == "…0042"


def test_facts_and_texts_break_at_spaces() -> None:
    facts = [("RAM", "135,412 bytes streamed, 871,684 unpacked"), ("classes", "cat, dog")]
    assert fact_lines(facts, 34) == [
        "RAM      135,412 bytes streamed,",
        "         871,684 unpacked",
        "classes  cat, dog",
    ]
    assert fact_lines(facts, 17) == [
        "RAM", "  135,412 bytes", "  streamed,", "  871,684", "  unpacked", "classes", "  cat, dog",
    ]  # fmt: skip
    assert fact_lines(facts)[0] == "RAM      135,412 bytes streamed, 871,684 unpacked"
    assert text_lines("top-1 97.1%  top-5 100.0%", 12) == ["top-1 97.1% ", "top-5 100.0%"]
    assert text_lines("top-1 97.1%  top-5 100.0%") == ["top-1 97.1%  top-5 100.0%"]
