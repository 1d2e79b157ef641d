"""The folder of a run: what is in it, and whether a run may go on in it.

run.json          settings: network, recipe, data, seed
checkpoints/      the last two, see ``checkpoint``
metrics.jsonl     a JSON object a line: training every few steps, validation every epoch
tensorboard/      the same as curves
best.safetensors  weights of the best validation, with the model's record
last.safetensors  weights at the end
result.json       written when the run is finished
report/           curves, confusion matrix, worst mistakes, model card; drawn by the command line
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from squeezenet.arch.serialization import to_plain
from squeezenet.codec.model_kinds import BEST_WEIGHTS, LAST_WEIGHTS
from squeezenet.errors import CheckpointError, UsageError
from squeezenet.files import remove_leftovers, write_bytes_atomically

_SETTINGS = "run.json"
_RESULT = "result.json"
REPORT = "report"


class RunFolder:
    """Opens or makes a run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tensorboard"
        self.best = path / BEST_WEIGHTS
        self.last = path / LAST_WEIGHTS

    def open(self, settings: dict[str, Any]) -> None:
        """Make the folder, or make sure that the run in it has these settings.

        Raises:
            CheckpointError: it has others (says which), or cannot be written.
            UsageError: the folder holds something else.
        """
        wanted = json.loads(json.dumps(to_plain(settings)))
        file = self.path / _SETTINGS
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)
        if file.is_file():
            found = self._read(file)
            for key in sorted(set(wanted) | set(found)):
                if wanted.get(key) != found.get(key):
                    raise CheckpointError(
                        f"{self.path}: holds a run with {_difference(key, found, wanted)}; "
                        "choose another --out, or remove the folder to start anew"
                    )
            return
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: is a file, expected a folder for the run")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(f"{self.path}: is not empty and holds no run; choose another --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(file, json.dumps(wanted, indent=1).encode())
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be written ({error.strerror})") from None

    def read_result(self) -> dict[str, Any] | None:
        """The result of a finished run, else None."""
        file = self.path / _RESULT
        return self._read(file) if file.is_file() else None

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_bytes_atomically(self.path / _RESULT, json.dumps(result, indent=1).encode())

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise CheckpointError(f"{file}: is damaged; remove the folder to start anew")
        return data


def _difference(key: str, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Say the first differing value of a setting, as ``spec.name squeezenet1_0, not ...``."""
    a, b = found.get(key), wanted.get(key)
    path = key
    while isinstance(a, dict) and isinstance(b, dict):
        # A name, where there is one, says more than the first differing number.
        keys = sorted(set(a) | set(b), key=lambda k: (k != "name", k))
        inner = next(k for k in keys if a.get(k) != b.get(k))
        path, a, b = f"{path}.{inner}", a.get(inner), b.get(inner)
    return f"{path} {_short(a)}, this one has {_short(b)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
