"""Progress of a worker process, sent to the process that shows it."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from squeezenet.errors import InterruptedRunError
from squeezenet.progress import Progress, Task

_SECONDS_BETWEEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A task has begun; its ``number`` is the worker's own."""

    number: int
    title: str
    total: int
    unit: str
    done: int


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """A task has gone on by ``num_items``."""

    number: int
    num_items: int
    note: str


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A task has ended."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A line to show."""

    message: str


Report = Opened | Advanced | Closed | Logged


class SentProgress:
    """Sends reports through a pipe; implements ``squeezenet.progress.Progress``.

    ``title`` stands before the title of each task, and before each message. Work that reports here
    ends with InterruptedRunError once ``stops`` returns True.
    """

    def __init__(self, pipe: Connection, stops: Callable[[], bool]) -> None:
        self._pipe = pipe
        self.stops = stops
        self._numbers = itertools.count()
        self.title = ""

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        number = next(self._numbers)
        shown = f"{self.title} {title}".strip()
        self.send(Opened(number=number, title=shown, total=total, unit=unit, done=done))
        return _SentTask(self, number)

    def log(self, message: str) -> None:
        self.send(Logged(message=f"{self.title}: {message}" if self.title else message))

    def send(self, report: Report) -> None:
        """Send a report; the reader may be gone, and then this process ends soon."""
        with contextlib.suppress(OSError):
            self._pipe.send(report)


class _SentTask:
    def __init__(self, progress: SentProgress, number: int) -> None:
        self._progress, self._number = progress, number
        self._items, self._note = 0, ""
        self._sent_at = 0.0

    def __enter__(self) -> _SentTask:
        return self

    def __exit__(self, *exc: object) -> None:
        self._send()
        self._progress.send(Closed(number=self._number))

    def advance(self, num_items: int, note: str = "") -> None:
        if self._progress.stops():
            raise InterruptedRunError("stopped", signal.SIGTERM)
        self._items += num_items
        self._note = note
        if time.monotonic() - self._sent_at >= _SECONDS_BETWEEN:
            self._send()

    def _send(self) -> None:
        self._sent_at = time.monotonic()
        self._progress.send(Advanced(number=self._number, num_items=self._items, note=self._note))
        self._items = 0


class ShownProgress:
    """Shows what one worker sends on a display."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[int, Task] = {}

    def show(self, report: Report) -> None:
        """Show a report."""
        if isinstance(report, Opened):
            task = self._progress.task(
                report.title, total=report.total, unit=report.unit, done=report.done
            )
            self._tasks[report.number] = task
            task.__enter__()
        elif isinstance(report, Advanced):
            self._tasks[report.number].advance(report.num_items, report.note)
        elif isinstance(report, Closed):
            self._tasks.pop(report.number).__exit__(None, None, None)
        else:
            self._progress.log(report.message)

    def close(self) -> None:
        """End what a worker that is gone has left."""
        for task in self._tasks.values():
            task.__exit__(None, None, None)
        self._tasks.clear()
