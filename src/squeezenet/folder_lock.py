"""A lock on a folder that processes work in: the second one is refused, and changes nothing.

The lock is on an open file of the folder, so the system frees it when its process ends, however it
ends. What is written in the file is for the message alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

from squeezenet.errors import CheckpointError, FolderInUseError

LOCK = ".squeezenet.lock"
_MAX_OWNER_BYTES = 200
_LOCKED = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class FolderLock:
    """A context in which no other process has the lock of ``folder``, which must exist.

    Where a file system knows no locks, every process is let in. If ``removes_folder`` is set, the
    folder goes with the lock, if it is empty.

    Raises:
        FolderInUseError: another process has it.
        CheckpointError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK
        self._descriptor = -1
        self.removes_folder = False

    def __enter__(self) -> FolderLock:
        while True:
            self._open()
            if not _try_lock(self._descriptor):
                owner = self._owner()
                self._close()
                raise FolderInUseError(
                    f"{self._folder}: another process ({owner}) is working in this folder; wait "
                    "for it, or choose another --out"
                )
            # The one before us may have removed the file after we opened it.
            with contextlib.suppress(OSError):
                if os.path.samestat(self._path.lstat(), os.fstat(self._descriptor)):
                    break
            self._close()
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        text = f"pid {os.getpid()} on {socket.gethostname()} since {started}\n".encode()
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its text
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, text[:_MAX_OWNER_BYTES])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Removed while it is locked: whoever has opened it by now looks for another, see above.
        if sys.platform == "win32":  # no open file can be removed there
            self._close()
        with contextlib.suppress(OSError):
            self._path.unlink()
            if self.removes_folder:
                self._folder.rmdir()
        if self._descriptor >= 0:
            self._close()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a link, a pipe
        try:
            self._descriptor = os.open(self._path, flags, 0o666)
        except OSError as error:
            raise CheckpointError(
                f"{self._folder}: cannot be written ({error.strerror}); choose another --out"
            ) from None

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _owner(self) -> str:
        """What the process that has the lock wrote, printable and short."""
        with contextlib.suppress(OSError):
            text = os.read(self._descriptor, _MAX_OWNER_BYTES).decode("ascii", "replace").strip()
            if text and text.isprintable():
                return text
        return "just started"


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 20
    """Far behind the text, which other processes cannot read while it is locked."""

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return error.errno not in _LOCKED
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _LOCKED
        return True
