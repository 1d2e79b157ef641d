"""The folder of a run: its files, and whether a run may continue in it.

run.json          settings: network, recipe, data, seed
data.fingerprint  hashes of the images, to notice and name those that change (``data.fingerprint``)
checkpoints/      the last two while training, the last one after that (``checkpoint``)
metrics.jsonl     one JSON object per line: training every 20 steps, validation every epoch
tensorboard/      the same as curves
best.safetensors  weights of the best validation, with the model's record
last.safetensors  weights at the end
result.json       written when the run is finished
report/           curves, confusion matrix, worst mistakes, model card; drawn by ``api``
.squeezenet.lock  while a process works in the folder (``folder_lock``)

What is read back has a checksum (``sealed_files``). A folder that is refused is left as it was, and
no file of the folder may be a symbolic link, since writing could follow it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from squeezenet.arch.serialization import to_plain
from squeezenet.codec.model_kinds import BEST_WEIGHTS, LAST_WEIGHTS
from squeezenet.data.fingerprint import Fingerprint, load_fingerprint
from squeezenet.errors import CheckpointError, UsageError
from squeezenet.files import is_leftover, make_folder, remove_leftovers
from squeezenet.folder_lock import LOCK, FolderLock
from squeezenet.sealed_files import read_sealed_json, write_sealed_json
from squeezenet.train.checkpoint import (
    checkpoint_paths,
    is_whole_checkpoint,
    newest_step,
)

_SETTINGS = "run.json"
_DATA = "data.fingerprint"
RESULT = "result.json"
REPORT = "report"
_CHECKPOINTS, _METRICS, _TENSORBOARD = "checkpoints", "metrics.jsonl", "tensorboard"
_NAMES = (
    _SETTINGS, _DATA, RESULT, REPORT, _CHECKPOINTS, _METRICS, _TENSORBOARD, BEST_WEIGHTS,
    LAST_WEIGHTS,
)  # fmt: skip
_LENGTH = ("epochs", "max_steps")
"""The fields of a recipe that say how long to train; a run may go on with others."""
_ANOTHER = "choose another --out, or remove the folder to start again"


class RunFolder:
    """Opens or makes a run's folder.

    ``identity`` is a hash of the settings without the length, once the folder is open; checkpoints
    carry it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / _CHECKPOINTS
        self.metrics = path / _METRICS
        self.tensorboard = path / _TENSORBOARD
        self.best = path / BEST_WEIGHTS
        self.last = path / LAST_WEIGHTS
        self.result = path / RESULT
        self.identity = ""
        self._lock: FolderLock | None = None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder if it is new, and keep other processes out of it.

        Raises:
            CheckpointError: another process works in it, or it cannot be written.
            UsageError: the folder holds something else.
        """
        self._require_own()
        with self._written():
            make_folder(self.path)
        with FolderLock(self.path) as lock:
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None

    def known_data(self) -> Fingerprint | None:
        """Return the fingerprint of the data that the folder keeps, if it is there and whole."""
        return load_fingerprint(self.path / _DATA)

    def check(
        self,
        settings: dict[str, Any],
        data: Fingerprint | None = None,
        *,
        total_steps: int | None = None,
    ) -> bool:
        """Return whether the folder holds a run with these settings; False if there is none.

        Nothing is written. With ``total_steps`` the run may have another length, see
        ``change_length``; then False. ``data`` names the images that have changed.

        Raises:
            CheckpointError: the settings differ, or the length cannot be changed.
            UsageError: the folder holds something else.
        """
        found, wanted = self._settings(), _plain(settings)
        if found is None or found == wanted:
            return found is not None
        if total_steps is not None and _without_length(found) == _without_length(wanted):
            self._require_length(total_steps)
            return False
        for key in sorted(set(wanted) | set(found)):
            if wanted.get(key) != found.get(key):
                raise CheckpointError(f"{self.path}: {self._difference(key, found, wanted, data)}")
        raise AssertionError("equal settings differ")

    def open(self, settings: dict[str, Any], data: Fingerprint | None = None) -> None:
        """Make the folder, or check that the run in it has these settings; remove leftovers.

        No other process may write in it: ``lock`` it, or the folder that it is in. ``data`` is
        kept, to name the images that have changed.

        Raises:
            CheckpointError: its settings differ (the message says where), or it cannot be written.
            UsageError: the folder holds something else.
        """
        exists = self.check(settings, data)
        with self._written():
            make_folder(self.path)
            for folder in (self.path, self.checkpoints):
                remove_leftovers(folder)
            if not exists:
                self._write_settings(_plain(settings))
            if data is not None and not data.same_files(self.known_data()):
                data.save(self.path / _DATA)
        self.identity = _hash(_without_length(_plain(settings)))

    def change_length(self, settings: dict[str, Any], total_steps: int) -> bool:
        """Accept another length for the run in this folder; return whether it has changed.

        Nothing happens if there is no run, or if it differs in more than its length: then ``open``
        says so. A finished run becomes unfinished. Training continues at the newest checkpoint,
        with the learning rate that a run of ``total_steps`` steps has there.

        Raises:
            CheckpointError: more steps than ``total_steps`` are done, or the run is finished and
                has no checkpoint.
        """
        found, wanted = self._settings(), _plain(settings)
        if found is None or found == wanted or _without_length(found) != _without_length(wanted):
            return False
        self._require_length(total_steps)
        # In this order: a kill in between leaves an unfinished run of the old length.
        self.result.unlink(missing_ok=True)
        self._write_settings(wanted)
        return True

    @property
    def is_damaged(self) -> bool:
        """Whether there are files of a run, but no settings or no checkpoint that can be read."""
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return False
        if read_sealed_json(self.path / _SETTINGS) is None:
            return True
        paths = checkpoint_paths(self.checkpoints)
        return bool(paths) and not any(map(is_whole_checkpoint, paths))

    def read_result(self) -> dict[str, Any] | None:
        """Return the result of a finished run, else None; None too if it is damaged."""
        return read_sealed_json(self.result)

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_sealed_json(self.result, result)

    def remove(self) -> bool:
        """Remove the run's files, and the folder if nothing else is in it; return whether.

        A folder that is locked goes when the lock does.
        """
        remove_leftovers(self.path)
        remove_leftovers(self.checkpoints)
        events = list(self.tensorboard.glob("events.out.tfevents.*"))
        files = [self.path / name for name in _NAMES]
        checkpoints = checkpoint_paths(self.checkpoints)
        for file in (*checkpoints, *events, *files):
            if file.is_file() or file.is_symlink():
                file.unlink()
        for folder in (self.checkpoints, self.tensorboard):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if any(path.name != LOCK for path in self.path.iterdir()):
            return False
        if self._lock is not None:
            self._lock.removes_folder = True
        else:
            self.path.rmdir()
        return True

    def _write_settings(self, settings: dict[str, Any]) -> None:
        write_sealed_json(self.path / _SETTINGS, settings)

    def _settings(self) -> dict[str, Any] | None:
        """The settings of the run in this folder; None if it is new or empty."""
        self._require_own()
        file = self.path / _SETTINGS
        if not file.is_file():
            return None
        found = read_sealed_json(file)
        if found is None:
            raise CheckpointError(
                f"{file}: is damaged, or of an earlier version without checksums; {_ANOTHER}"
            )
        return found

    def _require_own(self) -> None:
        """Refuse a folder that is neither new nor empty nor a run's."""
        path = self.path
        try:
            if path.is_symlink() and not path.exists():
                raise UsageError(f"{path}: is a link to nothing, expected a folder for the run")
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path}: is a file, expected a folder for the run")
            names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
        if _SETTINGS not in names:
            if any(name != LOCK and not is_leftover(name) for name in names):
                raise UsageError(f"{path}: is not empty and holds no run; choose another --out")
            return
        for name in sorted(names & set(_NAMES)):
            if (path / name).is_symlink():
                raise UsageError(
                    f"{path / name}: is a symbolic link, which writing could follow; put the file "
                    "itself here, or choose another --out"
                )

    def _require_length(self, total_steps: int) -> None:
        done = newest_step(self.checkpoints)
        if done > total_steps:
            raise CheckpointError(
                f"{self.path}: {done} steps are done and {total_steps} were asked for; raise "
                "--epochs or --max-steps to train longer, or choose another --out"
            )
        if not done and self.result.exists():
            raise CheckpointError(
                f"{self.path}: the run is finished and its checkpoint is gone, so it cannot be "
                "trained longer; start another with --from and another --out"
            )

    def _difference(
        self, key: str, found: dict[str, Any], wanted: dict[str, Any], data: Fingerprint | None
    ) -> str:
        a, b = found.get(key), wanted.get(key)
        if data is None or not isinstance(a, dict) or b != data.summary:
            return f"holds a run with {_difference(key, found, wanted)}; {_ANOTHER}"
        if a.get("names") != data.names:
            return (
                "holds a run on other images: their names or labels have changed since it began; "
                f"{_ANOTHER}"
            )
        return f"{data.change(self.known_data())}, under the same names; {_ANOTHER}"

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be written ({error.strerror}); choose another --out"
            ) from None


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


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
