"""Metrics of a run, as JSON lines with checksums and as TensorBoard curves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from squeezenet.files import open_regular, write_bytes_atomically
from squeezenet.progress import Progress, SilentProgress
from squeezenet.sealed_files import read_sealed_lines, sealed_line


class MetricsLog:
    """Appends to ``file`` and ``tensorboard``.

    Lines after ``first_step`` are dropped: a killed run wrote them, and the resumed run writes
    them again. So are damaged lines, which are counted in a line to ``progress``.
    """

    def __init__(
        self, file: Path, tensorboard: Path, first_step: int, progress: Progress | None = None
    ) -> None:
        _truncate(file, first_step, progress or SilentProgress())
        self._path, self._tensorboard = file, tensorboard
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(open_regular(file, "ab"))
            stack.enter_context(_quiet_threads("tensorboard"))
            with _errors_name(tensorboard):
                self._writer = SummaryWriter(str(tensorboard), purge_step=first_step + 1)
            self._opened = stack.pop_all()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._opened, _errors_name(self._tensorboard):
            self._writer.close()

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Log values after ``step`` steps; ``kind`` is "train", "val" or "measured"."""
        line = sealed_line({"kind": kind, "step": step, **values})
        with _errors_name(self._path):
            self._file.write(line.encode())
            self._file.flush()
        with _errors_name(self._tensorboard):
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)


@contextlib.contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Let errors of writing name the path; a full disk names none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextlib.contextmanager
def _quiet_threads(package: str) -> Iterator[None]:
    """Print no traceback of a package's threads, whose errors the next call raises again."""
    before = threading.excepthook

    def print_others(arguments: threading.ExceptHookArgs) -> None:
        if not type(arguments.thread).__module__.startswith(f"{package}."):
            before(arguments)

    threading.excepthook = print_others
    try:
        yield
    finally:
        threading.excepthook = before


def _truncate(file: Path, first_step: int, progress: Progress) -> None:
    """Keep the lines up to ``first_step``; none if the run starts at step 0."""
    if not file.is_file():
        return
    lines, num_bad = read_sealed_lines(file)
    if num_bad and first_step > 0:
        progress.log(f"{file}: {num_bad} damaged or unfinished lines are left out")
    kept = [line for line in lines if line.get("step") in range(1, first_step + 1)]
    write_bytes_atomically(file, "".join(map(sealed_line, kept)).encode())
