"""Metrics of a run, as JSON lines with checksums and as TensorBoard curves."""

from __future__ import annotations

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
        self._path = file
        self._file = open_regular(file, "ab")
        self._writer = SummaryWriter(str(tensorboard), purge_step=first_step + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._writer.close()

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Log values after ``step`` steps; ``kind`` is "train" or "val"."""
        line = sealed_line({"kind": kind, "step": step, **values})
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            error.filename = str(self._path)  # a full disk names no file
            raise
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)


def _truncate(file: Path, first_step: int, progress: Progress) -> None:
    """Keep the lines up to ``first_step``; none if the run starts at step 0."""
    if not file.is_file():
        return
    lines, num_bad = read_sealed_lines(file)
    if num_bad and first_step > 0:
        progress.log(f"{file}: {num_bad} damaged or unfinished lines are left out")
    kept = [line for line in lines if line.get("step") in range(1, first_step + 1)]
    write_bytes_atomically(file, "".join(map(sealed_line, kept)).encode())
