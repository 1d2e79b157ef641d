"""Standard streams that may be closed, full or absent: daemons, ``pythonw``, ``2>&-``, ``| head``.

A message that cannot be written is lost, and the work goes on. Output that cannot be written ends
the command: quietly where its reader has ended, else with an error. Standard library alone, since
this comes before anything else is imported.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

_BROKEN_PIPE = {errno.EPIPE} | ({errno.EINVAL} if os.name == "nt" else set())
"""Windows has the other number for a pipe that nobody reads."""


class ClosedOutputError(Exception):
    """The reader of our output has ended, as ``| head`` does; nothing is wrong.

    Not a ``BrokenPipeError``: another pipe may break, too, and rich ends the program on it.
    """


def prepare_streams() -> None:
    """Give the program all three descriptors, and an output and error stream that it can use.

    A file that is opened gets the lowest free descriptor. If that were 1 or 2, what libraries
    write there would end up in the file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free one, so this very one
            os.set_inheritable(opened, True)
    sys.stdout = _usable(sys.stdout, must_arrive=True)
    sys.stderr = _usable(sys.stderr, must_arrive=False)


def _usable(stream: TextIO | None, *, must_arrive: bool) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - Path has no devnull
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # not a file: whoever put it there reads it
        return stream
    stream.flush()
    raw = _Raw(getattr(buffer, "raw", buffer), must_arrive=must_arrive)
    unbuffered = bool(getattr(stream, "write_through", False))  # python -u
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",  # file names and class names may hold anything
        line_buffering=not must_arrive or unbuffered or stream.isatty(),
    )


class _Raw(io.RawIOBase):
    """The raw file below a stream; after its first error what is written is dropped."""

    def __init__(self, raw: Any, *, must_arrive: bool) -> None:
        self._raw, self._must_arrive, self._failed = raw, must_arrive, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        if self._failed:
            return len(data)
        try:
            while (written := self._raw.write(data)) is None:  # a pipe that does not block
                self._wait()
        except OSError as error:
            self._failed = True
            if not self._must_arrive:
                return len(data)
            if error.errno in _BROKEN_PIPE:
                raise ClosedOutputError from None
            error.filename = "standard output"
            raise
        return int(written)

    def _wait(self) -> None:
        import select

        select.select([], [self._raw], [])
