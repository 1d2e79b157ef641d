"""The folder ``OUT.work``: what an interrupted compression goes on from.

It is a run folder (``train/run_folder``) with more files: those of ``FILES``, and the folder of
each retraining in ``STAGES``. What is damaged in it is computed again; what is not ours stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from squeezenet.errors import CheckpointError, UsageError
from squeezenet.progress import Progress
from squeezenet.sealed_files import read_sealed_json
from squeezenet.train.run_folder import RunFolder

CURVATURE, PRUNED_CURVATURE, NETWORK = "curvature.npz", "pruned-curvature.npz", "network.npz"
CLASS_FISHER, PRUNED_CLASS_FISHER = "classes.npz", "pruned-classes.npz"
FINER = ("finer1.npz", "finer2.npz", "finer3.npz", "finer4.npz")
DENSITY, DENSITIES = "density.json", "densities.json"
FILES = (
    CURVATURE, PRUNED_CURVATURE, CLASS_FISHER, PRUNED_CLASS_FISHER, NETWORK, *FINER, DENSITY,
    DENSITIES,
)  # fmt: skip
PRUNE, SHARE, LEVELS = "prune", "share", "levels"
STAGES = (PRUNE, SHARE, LEVELS)

T = TypeVar("T")


def open_stage(path: Path, settings: dict[str, Any], progress: Progress) -> RunFolder:
    """Open the folder of a retraining, within a work folder that is locked.

    Raises:
        CheckpointError: it cannot be written, or holds files of others, or is a link.
    """
    if path.is_symlink():
        raise CheckpointError(f"{path}: is a symbolic link, expected the folder itself; remove it")
    folder = RunFolder(path)
    if folder.is_damaged:
        progress.log(f"{path}: is damaged; this stage is computed again")
        folder.remove()
    try:
        folder.open(settings)
    except UsageError as error:  # of the folder, not of the command
        raise CheckpointError(str(error)) from None
    return folder


def read_whole(path: Path, read: Callable[[Path], T | None], progress: Progress) -> T | None:
    """Return what ``read`` finds in a work file, or None if there is none, or if it is damaged.

    ``read`` returns None for a damaged file. ``progress`` is told of one.
    """
    if not path.exists():
        return None
    found = read(path)
    if found is None:
        progress.log(f"{path}: is damaged; it is computed again")
    return found


def read_densities(path: Path, progress: Progress) -> dict[str, float]:
    """Return the densities of a sealed JSON object; none if there is none, or if it is damaged."""

    def read(file: Path) -> dict[str, float] | None:
        found = read_sealed_json(file)
        if found is None or not all(
            isinstance(value, float) and 0 < value <= 1 for value in found.values()
        ):
            return None
        return found

    return read_whole(path, read, progress) or {}


def remove_work(folder: RunFolder, progress: Progress) -> None:
    """Remove a work folder that is locked, and say so if it has other files, which stay."""
    for stage in STAGES:
        path = folder.path / stage
        if path.is_dir() and not path.is_symlink():
            RunFolder(path).remove()
    for name in FILES:
        (folder.path / name).unlink(missing_ok=True)
    if not folder.remove():
        progress.log(f"{folder.path}: is kept, since it holds files that squeezenet did not write")
