"""Progress on a terminal: live bars with rate and time left.

``NO_COLOR`` is honoured (rich does). Progress where there is no terminal is in ``output``.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from squeezenet.cli.text import amount, duration, one_line, shorten_start

_FULL_WIDTH, _NARROW_WIDTH = 80, 60
"""Terminal columns from which a line has room for everything, and for all but bar and rate."""
_PERCENT_WIDTH = 4


class _Speed(ProgressColumn):
    """Time left, and items per second before it where there is room."""

    def __init__(self, *, with_rate: bool) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._with_rate = with_rate

    def render(self, task: RichTask) -> Text:
        rate = task.finished_speed or task.speed
        if not rate:
            return Text("")
        left = f"{duration(((task.total or 0) - task.completed) / rate)} left"
        return Text(f"{amount(rate, task.fields['unit'])}/s, {left}" if self._with_rate else left)


class _Note(ProgressColumn):
    """The task's note. Its end is the newest result, so it is shortened at its start."""

    def __init__(self, max_width: int) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._max_width = max_width

    def render(self, task: RichTask) -> Text:
        return Text(shorten_start(task.fields["note"], self._max_width))


def _columns(width: int) -> list[ProgressColumn]:
    """What a line of progress shows on a terminal of ``width`` columns; the note always."""
    title = TextColumn("{task.description}", table_column=Column(no_wrap=True))
    percent = TextColumn(f"{{task.percentage:>{_PERCENT_WIDTH - 1}.0f}}%")
    if width >= _FULL_WIDTH:
        bar = BarColumn(bar_width=20)
        return [title, bar, percent, _Speed(with_rate=True), _Note(width)]
    if width >= _NARROW_WIDTH:
        return [title, percent, _Speed(with_rate=False), _Note(width)]
    return [percent, _Note(width - _PERCENT_WIDTH - 1)]


class TerminalProgress:
    """Live bars, a line for each task; implements ``squeezenet.progress.Progress``."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: Progress | None = None

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> _BarTask:
        return _BarTask(self, title, total, unit, done)

    def log(self, message: str) -> None:
        self._console.print(Text(one_line(message)))

    def open(self) -> Progress:
        """Return the bars, of which one terminal can have but one set."""
        if self._bars is None:
            self._bars = Progress(
                *_columns(self._console.width),
                console=self._console,
                transient=True,
                speed_estimate_period=60,
            )
            self._bars.start()
        return self._bars

    def close(self, task: TaskID) -> None:
        """Remove a bar, and all of them with the last one."""
        assert self._bars is not None
        self._bars.remove_task(task)
        if not self._bars.tasks:
            self._bars.stop()
            self._bars = None


class _BarTask:
    def __init__(
        self, progress: TerminalProgress, title: str, total: int, unit: str, done: int
    ) -> None:
        self._progress = progress
        self._title, self._total, self._unit, self._done = title, total, unit, done

    def __enter__(self) -> _BarTask:
        self._bars = self._progress.open()
        self._id: TaskID = self._bars.add_task(
            self._title, total=self._total, completed=self._done, unit=self._unit, note=""
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.close(self._id)

    def advance(self, num_items: int, note: str = "") -> None:
        self._bars.update(self._id, advance=num_items, note=note)
