"""Progress of long work: a protocol that library code reports to.

The command line supplies a display (``cli/display.py``); without one, library code is silent.
Like ``errors``, every folder may import this module.
"""

from __future__ import annotations

from typing import Protocol


class Task(Protocol):
    """A task with a known number of items; use it as a context manager."""

    def __enter__(self) -> Task: ...

    def __exit__(self, *exc: object) -> None: ...

    def advance(self, num_items: int, note: str = "") -> None:
        """Add ``num_items`` finished items; ``note`` is a short status such as an accuracy."""


class Progress(Protocol):
    """A receiver of progress reports."""

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        """Open a task of ``total`` items, ``done`` of which were finished earlier."""

    def log(self, message: str) -> None:
        """Show a line that stays on the screen."""


class _SilentTask:
    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, num_items: int, note: str = "") -> None:
        return None


class SilentProgress:
    """Discard all reports."""

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        return _SilentTask()

    def log(self, message: str) -> None:
        return None
