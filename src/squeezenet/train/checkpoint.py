"""Checkpoints that survive kills and full disks: a new file, fsynced, renamed, folder fsynced.

A checkpoint holds everything that a run needs to resume as if it had never stopped. Random numbers
need no state, because every draw is seeded by (seed, step). While training, the last two are kept.
A checkpoint ends with its checksum (``sealed_files``): of a damaged one nothing is used. It is read
as data, by the reader for weights of others, which runs nothing that it names.
"""

from __future__ import annotations

import contextlib
import errno
import re
from pathlib import Path
from typing import Any

import torch

from squeezenet.errors import CheckpointError
from squeezenet.model.torch_file import StoredTensor, TorchFileError, read_torch_file
from squeezenet.progress import Progress, SilentProgress
from squeezenet.sealed_files import open_sealed, write_sealed

KEPT_IN_TRAINING = 2
"""The newest may be damaged by a failing disk; then the one before it is loaded."""
_MAX_DEPTH = 8
"""An optimiser's ``state_dict`` has four levels, inside of two."""
_NAME = re.compile(r"step-\d{9,15}\.pt")


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], *, keep: int | None = KEPT_IN_TRAINING
) -> Path:
    """Write the state after ``step`` steps; then remove all but the last ``keep``, None for none.

    Raises:
        CheckpointError: it could not be written; the earlier ones are untouched.
    """
    path = folder / f"step-{step:09d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:
        # torch's writer turns a failed write into a RuntimeError.
        full = _is_disk_full(error) or _is_disk_full(error.__context__)
        reason = "the disk is full" if full else str(error).splitlines()[0]
        earlier = checkpoint_paths(folder)
        kept = f"{earlier[-1].name} is kept" if earlier else "there is no earlier one"
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({reason}); {kept}; "
            "free some space and run the same command to resume"
        ) from None
    if keep is not None:
        _remove_all_but(folder, keep, step)
    return path


def remove_old_checkpoints(folder: Path) -> None:
    """Keep only the newest checkpoint, from which a finished run can be trained longer."""
    _remove_all_but(folder, 1, newest_step(folder))


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))


def newest_step(folder: Path) -> int:
    """Return the number of steps after which the newest checkpoint was written; 0 if none was."""
    paths = checkpoint_paths(folder)
    return _step_of(paths[-1]) if paths else 0


def is_whole_checkpoint(path: Path) -> bool:
    """Whether the file is there and its checksum is right."""
    file = open_sealed(path)
    if file is None:
        return False
    file.close()
    return True


def load_latest(folder: Path, progress: Progress | None = None) -> dict[str, Any] | None:
    """Return the state of the newest checkpoint that is whole, or None if there are none at all.

    Each newer one, which is damaged, is a line to ``progress``.

    Raises:
        CheckpointError: there are some, and all are damaged; or one is whole and not of ours.
    """
    paths = checkpoint_paths(folder)
    for i, path in enumerate(reversed(paths)):
        file = open_sealed(path)
        if file is None:
            continue
        with file:
            try:
                state = _with_tensors(read_torch_file(file), {}, _MAX_DEPTH)
            except TorchFileError:
                state = None
        if not isinstance(state, dict):
            raise CheckpointError(f"{path}: is no checkpoint of a training; remove the file")
        for damaged in paths[len(paths) - i :]:
            (progress or SilentProgress()).log(
                f"{damaged}: is damaged; the run goes on from {path.name}, the one before"
            )
        return state
    if paths:
        raise CheckpointError(
            f"{folder}: none of {len(paths)} checkpoints can be read, all are damaged; copy the "
            "folder again, or remove the run's folder to start again"
        )
    return None


def _with_tensors(value: Any, known: dict[int, Any], max_depth: int) -> Any:
    """Return what was read with its tensors; what was one object in the file is one again.

    ``known`` are the results so far, by the identity of what they come from.

    Raises:
        TorchFileError: values are nested too deeply, as in an attack.
    """
    if not isinstance(value, (StoredTensor, dict, list, tuple)):
        return value
    if id(value) not in known:
        if not max_depth:
            raise TorchFileError("is nested too deeply")
        if isinstance(value, StoredTensor):
            known[id(value)] = value.read()
        elif isinstance(value, dict):
            known[id(value)] = {
                key: _with_tensors(item, known, max_depth - 1) for key, item in value.items()
            }
        else:
            items = (_with_tensors(item, known, max_depth - 1) for item in value)
            known[id(value)] = type(value)(items)
    return known[id(value)]


def _remove_all_but(folder: Path, num_kept: int, step: int) -> None:
    """Keep the newest checkpoints up to ``step``.

    Those after it are damaged, or training would not be here. They go when there are enough others.
    """
    paths = checkpoint_paths(folder)
    usable = [path for path in paths if _step_of(path) <= step]
    kept = usable[-num_kept:] if len(usable) >= num_kept else paths
    for path in paths:
        if path not in kept:
            with contextlib.suppress(OSError):
                path.unlink()


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _is_disk_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
