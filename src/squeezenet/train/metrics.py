"""Metrics of a run, as JSON lines and as TensorBoard curves."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from squeezenet.files import write_bytes_atomically


class MetricsLog:
    """Appends to ``file`` and ``tensorboard``.

    Lines after ``first_step`` are dropped: a killed run wrote them, and the resumed run writes
    them again.
    """

    def __init__(self, file: Path, tensorboard: Path, first_step: int) -> None:
        _truncate(file, first_step)
        self._file = file.open("a", encoding="utf-8")
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
        line = {"kind": kind, "step": step, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)


def _truncate(file: Path, first_step: int) -> None:
    """Keep the lines up to ``first_step``; none if the run starts at step 0."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= first_step and first_step > 0:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # an incomplete line: the process was killed while writing it
    write_bytes_atomically(file, "".join(line + "\n" for line in kept).encode())
