"""Who works on a study: a lock for each process, which the system frees when the process ends.

So after a kill the next process of the same machine knows at once which trials have no worker, and
need not wait for their heartbeat to be missed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squeezenet.errors import CheckpointError
from squeezenet.files import make_folder
from squeezenet.folder_lock import FolderLock

_WORKERS = "workers"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that runs trials: its machine, its study's folder there, and its own name.

    ``has_lock``: the folder's file system knows locks, so that it can be seen whether it lives.
    """

    host: str
    folder: str
    name: str
    has_lock: bool = True


@contextlib.contextmanager
def present(folder: Path) -> Iterator[Worker]:
    """Be there as a worker of the study in ``folder``, until the context is left.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    place = folder / _WORKERS / name
    try:
        make_folder(place)
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be written ({error.strerror})") from None
    with FolderLock(place) as lock:
        lock.removes_folder = True
        yield Worker(
            host=socket.gethostname(),
            folder=str(folder.absolute()),
            name=name,
            has_lock=not _can_be_locked(place),
        )


def is_gone(worker: Worker, folder: Path) -> bool:
    """Whether a worker of this machine and folder has ended; False for those of others."""
    is_here = (worker.host, worker.folder) == (socket.gethostname(), str(folder.absolute()))
    if not is_here or not worker.has_lock:
        return False
    return _has_ended(folder / _WORKERS / worker.name)


def remove_gone(folder: Path) -> None:
    """Remove what workers of this folder have left that were killed."""
    for place in (folder / _WORKERS).glob("*"):
        _has_ended(place)


def _can_be_locked(place: Path) -> bool:
    """Whether a second lock is given on a folder: one that is locked can have none."""
    try:
        with FolderLock(place):
            return True
    except CheckpointError:
        return False


def _has_ended(place: Path) -> bool:
    """Whether the worker of this place has ended; what it left is removed."""
    if not place.is_dir():
        return True
    try:
        with FolderLock(place) as lock:
            lock.removes_folder = True
    except CheckpointError:
        return False
    return True
