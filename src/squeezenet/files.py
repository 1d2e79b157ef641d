"""Write files atomically: no reader and no power cut ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from squeezenet.errors import SqueezeNetError, UsageError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, then rename it to ``path``.

    The file is synced to disk, renamed, and the folder synced. So ``path`` has either its old
    content or all of the new one, even after a crash. On an error the new file is removed.

    Raises:
        OSError: the disk is full, the folder is missing, and so on.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk has none
        raise
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed ``write_atomically`` calls in a folder."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write bytes by ``write_atomically``."""
    write_atomically(path, lambda file: file.write(data))


def read_open_file(
    file: Any, unnamed: str, error: type[SqueezeNetError], limit: int = -1
) -> tuple[str, bytes]:
    """Return the name of an open file, ``unnamed`` if it has none, and its bytes from here on.

    No more than ``limit`` bytes are read, if it is given.

    Raises:
        SqueezeNetError: the file was opened as text; it is of the class ``error``.
    """
    own = getattr(file, "name", None)
    name = own if isinstance(own, str) else unnamed
    try:
        content = file.read(limit)
    except UnicodeDecodeError:  # a text file reads by decoding
        content = ""
    if not isinstance(content, bytes):
        raise error(f"{name}: gives text, expected a file opened for bytes, mode 'rb'")
    return name, content


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that new names in it survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_output(path: Path, model: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an invalid output path before the work begins.

    Raises:
        UsageError: the folder is missing, the suffix is not one of ``suffixes``, or the output
            would overwrite ``model``.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, expected the name of a file to write")
    if path.suffix not in suffixes:
        raise UsageError(f"{path}: ending {path.suffix!r}, expected {' or '.join(suffixes)}")
    if path.exists() and model.exists() and path.samefile(model):
        raise UsageError(f"{path}: is the model itself; choose another name to write")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
