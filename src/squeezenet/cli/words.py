"""Results on stdout and progress on stderr, as plain text where there is no terminal.

What not every answer needs is imported where it is used: rich takes longer than an answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squeezenet.cli.display import TerminalProgress

_SECONDS_BETWEEN_LINES = 10.0


def print_json(value: object, *, indent: int | None = 1) -> None:
    """Print the one JSON object of ``--json``, or a line of JSONL without ``indent``."""
    import json

    from squeezenet.arch.plain import to_plain

    text = json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # JSON escapes the first 32 control characters by itself; terminals obey others as well.
    safe = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    print("".join(safe), flush=True)


def one_line(text: str, limit: int = 1000) -> str:
    """Make text from anywhere fit for a terminal: one line, no control characters, not endless."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(text) <= limit else clean[:limit] + "..."


def percent(value: float | None) -> str:
    """Format a percentage for people."""
    return "-" if value is None else f"{value:.1f}%"


def plain(value: Any) -> Any:
    """``to_plain`` with floats rounded, so that JSON stays readable."""
    from squeezenet.arch.plain import to_plain

    value = to_plain(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout; numbers are aligned right."""
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from squeezenet.cli.display import show_table

        show_table(title, columns, cells, numeric)
        return
    if title:
        print(title)
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        parts = (
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        print(f" {'  '.join(parts)}".rstrip())


def _width(text: str) -> int:
    """Columns that a terminal or an editor gives a text."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else one_line(str(value))


def make_progress() -> TerminalProgress | LineProgress:
    """The display that suits stderr: live bars on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        return LineProgress()
    from squeezenet.cli.display import TerminalProgress

    return TerminalProgress()


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
        left = duration((self._total - self._done) / rate) if rate else "?"
        share = 100 * self._done / max(1, self._total)
        line = f"{self._title} {share:.0f}% {amount(rate, self._unit)}/s, {left} left {note}"
        print(line.rstrip(), file=sys.stderr, flush=True)


def amount(value: float, unit: str) -> str:
    """Format a number of items, or of bytes."""
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Format a time as a clock would."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
