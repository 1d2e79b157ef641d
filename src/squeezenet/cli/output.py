"""JSON on stdout and progress on stderr; tables are in ``table``.

What not every command needs is imported where it is used: rich alone takes longer to import than
one prediction takes.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from squeezenet.cli.text import amount, duration, one_line
from squeezenet.images.bad import BadImages
from squeezenet.launch import this_launch
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.images.walk import Findings

_SECONDS_BETWEEN_LINES = 10.0
_SHARE_BETWEEN_LINES = 1 / 20
"""Of the time that a task has taken: a log of hours has a hundred lines, not thousands."""


def print_json(value: object, *, indent: int | None = 1) -> None:
    """Print the one JSON object of ``--json``, or a line of JSONL without ``indent``.

    JSON between programs is UTF-8 (RFC 8259, 8.1). To a stream of another encoding it is written
    in ASCII, with everything else escaped.
    """
    import codecs
    import json

    from squeezenet.arch.serialization import to_plain

    is_utf8 = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name == "utf-8"
    text = json.dumps(to_plain(value), indent=indent, ensure_ascii=not is_utf8, allow_nan=False)
    # JSON escapes the first 32 control characters by itself; terminals obey others as well.
    lines = (
        line
        if line.isprintable()
        else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        for line in text.split("\n")
    )
    print("\n".join(lines), flush=True)


def plain(value: Any) -> Any:
    """``to_plain`` with floats rounded, so that JSON stays readable."""
    from squeezenet.arch.serialization import to_plain

    value = to_plain(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def make_progress() -> Progress:
    """The display that suits stderr: live bars on a terminal, else a line now and then.

    Of several ranks only the first shows anything.
    """
    if not this_launch().is_main:
        return SilentProgress()
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
        interval = max(_SECONDS_BETWEEN_LINES, _SHARE_BETWEEN_LINES * (now - self._started))
        if now - self._said < interval:
            return
        self._said = now
        rate = (self._done - self._first) / (now - self._started)
        left = duration((self._total - self._done) / rate) if rate else "?"
        share = 100 * self._done / max(1, self._total)
        line = f"{self._title} {share:.0f}% {amount(rate, self._unit)}/s, {left} left {note}"
        print(line.rstrip(), file=sys.stderr, flush=True)


def bad_images(progress: Progress, *, strict: bool) -> BadImages:
    """Return the collector of unreadable images; each is reported as it is met."""
    return BadImages(strict=strict, report=progress.log)


def report_skipped(count: int, progress: Progress) -> None:
    """End a command with the number of images that it skipped."""
    if count:
        what, was = ("image", "was") if count == 1 else ("images", "were")
        progress.log(f"{count} {what} could not be read and {was} skipped")


def report_notes(findings: Findings, progress: Progress) -> None:
    """Begin a command with what there is to say of its data, a line each."""
    for note in findings.notes:
        progress.log(note)


def report_unused(findings: Findings, progress: Progress, *, list_all: bool) -> None:
    """End a command with what its data had besides pictures: counted by reason, or all of it."""
    if list_all:
        for entry in findings.passed_over:
            progress.log(f"not used {entry.path}: {entry.reason}")
    if summary := findings.summary(hint=not list_all):
        progress.log(summary)
