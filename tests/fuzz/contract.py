"""What holds for any bytes: a right result or one clear error, within bounds of time and memory.

``check_input`` raises ``Broken`` where it does not hold. Peak memory is that of Linux
(``VmHWM``), which is set back before each input; elsewhere it is not checked.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from squeezenet.errors import SqueezeNetError
from squeezenet.images.decode import IncompleteImageWarning

MAX_SECONDS = 5.0
"""Of processor time, all threads together."""
MAX_MESSAGE = 2_000
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "shutil.rmtree", "shutil.move", "shutil.copyfile",
}  # fmt: skip
_NEVER = {
    "os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.find_class", "socket.connect",
    "subprocess.Popen",
}  # fmt: skip


class Broken(AssertionError):  # noqa: N818
    """A promise does not hold for an input."""


class Lines:
    """Progress that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Lines:
        return self

    def advance(self, num_items: int, note: str = "") -> None:
        pass

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Guard:
    """Notes what Python does outside of a folder. An audit hook cannot be removed, so it sleeps."""

    def __init__(self) -> None:
        self.folder = ""
        self.found: list[str] = []
        self._is_there = False

    def watch(self, folder: Path) -> None:
        if not self._is_there:
            sys.addaudithook(self._see)
            self._is_there = True
        self.folder, self.found = str(folder), []

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event in _NEVER:
            self.found.append(f"{event} {arguments!r}"[:200])
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._see_path(event, arguments[0])
        elif event in _CHANGES:
            last = arguments[-1]
            base = f"/proc/self/fd/{last}" if isinstance(last, int) and last >= 0 else ""
            for each in arguments:
                self._see_path(event, each, base)

    def _see_path(self, event: str, path: object, base: str = "") -> None:
        """``base``: the open folder that a path is in, if it is not that of the process."""
        if not isinstance(path, (str, bytes, os.PathLike)) or os.fsdecode(path) == os.devnull:
            return
        where = str(Path(base, os.fsdecode(path)).resolve())
        if not where.startswith(self.folder):
            self.found.append(f"{event} {path!r}")


_GUARD = _Guard()


def check_input(
    read: Callable[[Lines], object], folder: Path, max_memory: int, max_seconds: float = MAX_SECONDS
) -> str:
    """Call ``read`` once; return the name of the error, or "read".

    ``folder``: the only place where it may write. ``max_memory``: bytes above what is in use.

    Raises:
        Broken: a promise does not hold. Any other exception of ``read`` is a broken promise, too.
    """
    log, result = Lines(), "read"
    before = _start_of_peak()
    started = time.process_time()
    _GUARD.watch(folder.resolve())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", IncompleteImageWarning)
            read(log)
    except SqueezeNetError as error:
        result = type(error).__name__
        log.lines.append(str(error))
    finally:
        _GUARD.folder = ""
    seconds = time.process_time() - started
    peak = _peak() - before
    if _GUARD.found:
        raise Broken(f"touched what is outside of its folder: {_GUARD.found[:3]}")
    if seconds > max_seconds:
        raise Broken(f"took {seconds:.1f} s of processor time, expected at most {max_seconds}")
    if before and peak > max_memory:
        raise Broken(f"took {peak >> 20} MB, expected at most {max_memory >> 20} MB")
    for line in log.lines:
        if not line or not line.isprintable() or len(line) > MAX_MESSAGE:
            raise Broken(f"a message is not one line of printable text: {line[:300]!r}")
    return result


def _start_of_peak() -> int:
    """Set the peak back to what is in use, and return that; 0 if the system does not tell."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return 0
    return _peak()


def _peak() -> int:
    try:
        status = _STATUS.read_text(encoding="ascii")
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
