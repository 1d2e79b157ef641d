"""What long work tells about itself: a protocol that library code calls.

The command line supplies a display (``cli/display.py``); library callers that
pass nothing get silence. Like ``errors``, every folder may import this module.
"""

from __future__ import annotations

from typing import Protocol


class Task(Protocol):
    """One piece of long work with a known end; use as a context manager."""

    def __enter__(self) -> Task: ...

    def __exit__(self, *exc: object) -> None: ...

    def advance(self, num_items: int, note: str = "") -> None:
        """Add ``num_items`` finished items; ``note`` is a short live remark."""


class Progress(Protocol):
    """Where long work reports to."""

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        """Open a task of ``total`` items, of which ``done`` were finished earlier."""

    def log(self, message: str) -> None:
        """Say one line that stays."""


class _SilentTask:
    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, num_items: int, note: str = "") -> None:
        return None


class SilentProgress:
    """Report nowhere."""

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        return _SilentTask()

    def log(self, message: str) -> None:
        return None
