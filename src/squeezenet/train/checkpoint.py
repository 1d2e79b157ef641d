"""Checkpoints that survive kills and full disks: a new file, fsynced, renamed, folder fsynced.

A checkpoint holds everything that a run needs to resume as if it had never stopped. Random numbers
need no state, because every draw is seeded by (seed, step). While training, the last two are kept.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Any

import torch

from squeezenet.errors import CheckpointError
from squeezenet.files import write_atomically

_KEPT_IN_TRAINING = 2
"""The newest may be damaged by a failing disk; then the one before it is loaded."""
_PATTERN = "step-*.pt"


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], *, keep_all: bool = False
) -> Path:
    """Write the state after ``step`` steps; then remove all but the last two, or none.

    Raises:
        CheckpointError: it could not be written; the earlier ones are untouched.
    """
    path = folder / f"step-{step:09d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: torch.save(state, file))
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
    if not keep_all:
        _remove_all_but(folder, _KEPT_IN_TRAINING)
    return path


def remove_old_checkpoints(folder: Path) -> None:
    """Keep only the newest checkpoint, from which a finished run can be trained longer."""
    _remove_all_but(folder, 1)


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints, oldest first."""
    return sorted(folder.glob(_PATTERN))


def newest_step(folder: Path) -> int:
    """Return the number of steps after which the newest checkpoint was written; 0 if none was."""
    paths = checkpoint_paths(folder)
    return int(paths[-1].stem.removeprefix("step-")) if paths else 0


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Return the state of the newest readable checkpoint, or None if there are no checkpoints.

    Raises:
        CheckpointError: there are some, and none can be read.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            # A damaged file raises RuntimeError, EOFError, UnpicklingError, and so on.
            continue
        assert isinstance(state, dict)
        return state
    if paths:
        raise CheckpointError(
            f"{folder}: none of {len(paths)} checkpoints can be read; "
            "remove the run's folder to start again"
        )
    return None


def _remove_all_but(folder: Path, num_kept: int) -> None:
    for path in checkpoint_paths(folder)[:-num_kept]:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_disk_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
