"""Checkpoints that survive kills and full disks: a new file, fsynced, renamed, folder fsynced.

The last two are kept. A checkpoint holds all that a run needs to go on as if never stopped;
random numbers need no state, since every draw is seeded by (seed, step).
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Any

import torch

from squeezenet.errors import CheckpointError
from squeezenet.files import write_atomically

_KEPT = 2
_PATTERN = "step-*.pt"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state after ``step`` steps and drop the oldest checkpoints.

    Raises:
        CheckpointError: it could not be written; the earlier ones are untouched.
    """
    path = folder / f"step-{step:09d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:
        # torch's writer turns a failed write into a RuntimeError.
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        inner = error.__context__
        full = full or (isinstance(inner, OSError) and inner.errno in (errno.ENOSPC, errno.EDQUOT))
        reason = "the disk is full" if full else str(error).splitlines()[0]
        earlier = checkpoint_paths(folder)
        kept = f"{earlier[-1].name} is kept" if earlier else "there was none before"
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({reason}); {kept}; "
            "free some space and run the same command to resume"
        ) from None
    for old in checkpoint_paths(folder)[:-_KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def checkpoint_paths(folder: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    return sorted(folder.glob(_PATTERN))


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that can be read, or None when there is none.

    Raises:
        CheckpointError: there are some, and none can be read.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            # Damage shows as RuntimeError, EOFError, UnpicklingError, ...; the one before may do.
            continue
        assert isinstance(state, dict)
        return state
    if paths:
        raise CheckpointError(
            f"{folder}: none of {len(paths)} checkpoints can be read; "
            "remove the folder to start anew"
        )
    return None
