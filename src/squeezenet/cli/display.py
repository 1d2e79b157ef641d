"""How results and progress look: results on stdout, progress on stderr.

On a terminal a live bar with rate and time left; elsewhere a line now and then, without colour
or spinner. ``NO_COLOR`` is honoured (rich does).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as RichTask
from rich.table import Column, Table
from rich.text import Text

from squeezenet.arch.plain import to_plain

_SECONDS_BETWEEN_LINES = 10.0


def print_json(value: object, *, indent: int | None = 1) -> None:
    """Print the one JSON object of ``--json``, or a line of JSONL without ``indent``."""
    text = json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # JSON escapes the first 32 control characters by itself; terminals obey others as well.
    safe = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    print("".join(safe), flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout; numbers are aligned right."""
    table = Table(title=Text(title), title_justify="left", header_style="bold", box=None)
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        table.add_column(column, justify="right" if numeric and rows else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    wide = Console()
    # A table cut to a pipe's 80 columns would lose digits.
    console = wide if wide.is_terminal else Console(width=200)
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else one_line(str(value))


def one_line(text: str, limit: int = 1000) -> str:
    """Make text from anywhere fit for a terminal: one line, no control characters, not endless."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(text) <= limit else clean[:limit] + "..."


def make_progress() -> TerminalProgress | LineProgress:
    """The display that suits stderr."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()


class _Rate(ProgressColumn):
    """Items a second and time left."""

    def render(self, task: RichTask) -> Text:
        rate = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not rate:
            return Text("")
        left = (task.total or 0) - task.completed
        return Text(f"{_amount(rate, unit)}/s, {_duration(left / rate)} left")


class TerminalProgress:
    """Live bars; implements ``squeezenet.progress.Progress``."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> _BarTask:
        return _BarTask(self._console, title, total, unit, done)

    def log(self, message: str) -> None:
        self._console.print(Text(one_line(message)))


class _BarTask:
    def __init__(self, console: Console, title: str, total: int, unit: str, done: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            speed_estimate_period=60,
        )
        self._id: TaskID = self._progress.add_task(
            title, total=total, completed=done, unit=unit, note=""
        )

    def __enter__(self) -> _BarTask:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def advance(self, num_items: int, note: str = "") -> None:
        self._progress.update(self._id, advance=num_items, note=note)


class LineProgress:
    """A line on stderr now and then; implements ``squeezenet.progress.Progress``."""

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> _LineTask:
        return _LineTask(title, total, unit, done)

    def log(self, message: str) -> None:
        print(one_line(message), file=sys.stderr, flush=True)


class _LineTask:
    def __init__(self, title: str, total: int, unit: str, done: int) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = self._first = done
        self._started = self._said = time.monotonic()

    def __enter__(self) -> _LineTask:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, num_items: int, note: str = "") -> None:
        self._done += num_items
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        rate = (self._done - self._first) / (now - self._started)
        left = _duration((self._total - self._done) / rate) if rate else "?"
        share = 100 * self._done / max(1, self._total)
        line = f"{self._title} {share:.0f}% {_amount(rate, self._unit)}/s, {left} left {note}"
        print(line.rstrip(), file=sys.stderr, flush=True)


def _amount(value: float, unit: str) -> str:
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def percent(value: float | None) -> str:
    """Format a percentage for people."""
    return "-" if value is None else f"{value:.1f}%"


def plain(value: Any) -> Any:
    """``to_plain`` with floats rounded, so that JSON stays readable."""
    value = to_plain(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
