"""Progress on a terminal: live bars with rate and time left.

``NO_COLOR`` is honoured (rich does). Progress where there is no terminal is in ``output``.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from squeezenet.cli.text import amount, duration, one_line


class _Rate(ProgressColumn):
    """Items per second and time left."""

    def render(self, task: RichTask) -> Text:
        rate = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not rate:
            return Text("")
        left = (task.total or 0) - task.completed
        return Text(f"{amount(rate, unit)}/s, {duration(left / rate)} left")


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
