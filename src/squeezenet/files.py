"""Write files atomically: no reader and no power cut ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

from squeezenet.errors import SqueezeNetError, UsageError

_TEMPORARY = ".squeezenet.tmp"
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.squeezenet\.tmp")
"""The names of our temporary files, ``.NAME.RANDOM.squeezenet.tmp``: no other program's."""


class NotRegularFileError(OSError):
    """A name that stands for no regular file, where only one is safe."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, then rename it to ``path``.

    The file is synced to disk, renamed, and the folder synced. So ``path`` has either its old
    content or all of the new one, even after a crash. On an error the new file is removed. Where
    ``path`` is a symbolic link, the link is replaced and the file that it names stays.

    Raises:
        OSError: the disk is full, the folder is missing, and so on.
    """
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent
        )
    except OSError as error:
        error.filename = str(path)  # the random name says nothing
        raise
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
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # a full disk names no file
        raise
    sync_folder(path.parent)


def is_leftover(name: str) -> bool:
    """Whether a file of this name is a temporary file of ``write_atomically``."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed ``write_atomically`` calls in a folder.

    Only for a folder that is known to be ours, and while no other process writes in it.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if is_leftover(path.name) and path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, so that they survive a crash.

    Raises:
        OSError: one of them cannot be made.
    """
    made = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        made.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        sync_folder(path.parent)


def open_regular(path: Path, mode: Literal["rb", "r+b", "wb", "ab"]) -> BinaryIO:
    """Open a regular file, never through a link; only "rb" wants it to exist.

    "r+b" reads and writes from the start, "wb" empties the file, "ab" appends.

    Raises:
        NotRegularFileError: it is a symbolic link, a folder, a device or a pipe.
        OSError: it is missing, or cannot be opened.
    """
    access = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "wb": os.O_WRONLY, "ab": os.O_WRONLY}[mode]
    flags = access | (0 if mode == "rb" else os.O_CREAT) | (os.O_APPEND if mode == "ab" else 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise NotRegularFileError(None, "is a symbolic link", str(path))
    if path.is_dir():
        raise NotRegularFileError(None, "is a folder", str(path))
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularFileError(None, "is not a regular file", str(path))
        if mode == "wb":
            os.ftruncate(descriptor, 0)
        return open(path, mode, opener=lambda *_: descriptor)
    except BaseException:
        os.close(descriptor)
        raise


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
    if os.name == "nt":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_output(path: Path, model: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an invalid output path before the work begins.

    Raises:
        UsageError: the folder is missing, the suffix is not one of ``suffixes``, or the output
            would overwrite ``model`` or a device.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, expected the name of a file to write")
    if path.suffix not in suffixes:
        raise UsageError(f"{path}: ending {path.suffix!r}, expected {' or '.join(suffixes)}")
    if path.exists() and model.exists() and path.samefile(model):
        raise UsageError(f"{path}: is the model itself; choose another name to write")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a device or a pipe, expected the name of a file to write")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
