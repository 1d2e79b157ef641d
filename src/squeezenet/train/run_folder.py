"""The folder of a run: its files, and whether a run may continue in it.

run.json          settings: network, recipe, data, seed
checkpoints/      the last two while training, the last one after that (``checkpoint``)
metrics.jsonl     one JSON object per line: training every 20 steps, validation every epoch
tensorboard/      the same as curves
best.safetensors  weights of the best validation, with the model's record
last.safetensors  weights at the end
result.json       written when the run is finished
report/           curves, confusion matrix, worst mistakes, model card; drawn by ``cli``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from squeezenet.arch.serialization import to_plain
from squeezenet.codec.model_kinds import BEST_WEIGHTS, LAST_WEIGHTS
from squeezenet.errors import CheckpointError, UsageError
from squeezenet.files import remove_leftovers, write_bytes_atomically
from squeezenet.train.checkpoint import newest_step

_SETTINGS = "run.json"
RESULT = "result.json"
REPORT = "report"
_LENGTH = ("epochs", "max_steps")
"""The fields of a recipe that say how long to train; a run may go on with others."""


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
        """Make the folder, or check that the run in it has these settings.

        Raises:
            CheckpointError: its settings differ (the message says where), or it cannot be written.
            UsageError: the folder holds something else.
        """
        wanted = _plain(settings)
        file = self.path / _SETTINGS
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)
        if file.is_file():
            found = self._read(file)
            for key in sorted(set(wanted) | set(found)):
                if wanted.get(key) != found.get(key):
                    raise CheckpointError(
                        f"{self.path}: holds a run with {_difference(key, found, wanted)}; "
                        "choose another --out, or remove the folder to start again"
                    )
            return
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: is a file, expected a folder for the run")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(f"{self.path}: is not empty and holds no run; choose another --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_settings(wanted)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be written ({error.strerror})") from None

    def change_length(self, settings: dict[str, Any], total_steps: int) -> bool:
        """Accept another length for the run in this folder; return whether it has changed.

        Nothing happens if there is no run, or if it differs in more than its length: then ``open``
        says so. A finished run becomes unfinished. Training continues at the newest checkpoint,
        with the learning rate that a run of ``total_steps`` steps has there.

        Raises:
            CheckpointError: more steps than ``total_steps`` are done, or the run is finished and
                has no checkpoint.
        """
        file, wanted = self.path / _SETTINGS, _plain(settings)
        if not file.is_file():
            return False
        found = self._read(file)
        if found == wanted or _without_length(found) != _without_length(wanted):
            return False
        done = newest_step(self.checkpoints)
        if done > total_steps:
            raise CheckpointError(
                f"{self.path}: {done} steps are done and {total_steps} were asked for; raise "
                "--epochs or --max-steps to train longer, or choose another --out"
            )
        if not done and self.read_result() is not None:
            raise CheckpointError(
                f"{self.path}: the run is finished and its checkpoint is gone, so it cannot be "
                "trained longer; start another with --from and another --out"
            )
        # In this order: a kill in between leaves an unfinished run of the old length.
        (self.path / RESULT).unlink(missing_ok=True)
        self._write_settings(wanted)
        return True

    def read_result(self) -> dict[str, Any] | None:
        """Return the result of a finished run, else None."""
        file = self.path / RESULT
        return self._read(file) if file.is_file() else None

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_bytes_atomically(self.path / RESULT, json.dumps(result, indent=1).encode())

    def _write_settings(self, settings: dict[str, Any]) -> None:
        write_bytes_atomically(self.path / _SETTINGS, json.dumps(settings, indent=1).encode())

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise CheckpointError(f"{file}: is damaged; remove the folder to start again")
        return data


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as they are after a round trip through JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(to_plain(settings)))
    return plain


def _without_length(settings: dict[str, Any]) -> dict[str, Any]:
    recipe = settings.get("recipe")
    if not isinstance(recipe, dict):
        return settings
    return settings | {"recipe": {k: v for k, v in recipe.items() if k not in _LENGTH}}


def _difference(key: str, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Describe the first difference, as ``spec.name "squeezenet1_0", this one has ...``."""
    a, b = found.get(key), wanted.get(key)
    path = key
    while isinstance(a, dict) and isinstance(b, dict):
        # A different name says more than a number; a different length alone is no obstacle.
        keys = sorted(set(a) | set(b), key=lambda k: (k != "name", k in _LENGTH, k))
        inner = next(k for k in keys if a.get(k) != b.get(k))
        path, a, b = f"{path}.{inner}", a.get(inner), b.get(inner)
    return f"{path} {_short(a)}, this one has {_short(b)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
