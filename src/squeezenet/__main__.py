"""Entry point of the ``squeezenet`` command and of ``python -m squeezenet``.

Signals are met here from the first moment on, before anything slow is imported. Long training
meets them itself (``train/stop.py``), to save its state first.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from squeezenet.cli.streams import prepare_streams


class Terminated(BaseException):
    """SIGTERM; like KeyboardInterrupt, nothing but the entry point catches it."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _run(arguments: list[str]) -> int:
    from squeezenet.cli.failures import report_errors

    if arguments[:1] == ["predict"] and "WORLD_SIZE" not in os.environ:
        from squeezenet.cli.plain_predict import plain_predict

        call = plain_predict(arguments[1:])
        if call is not None:
            return report_errors(call)
    from squeezenet.cli.app import run

    return run(arguments)


def _end(message: str, number: int) -> int:
    from squeezenet.cli.failures import fail

    return fail(message, 128 + number)


def main() -> None:
    """Run the command line and leave with its exit code."""
    prepare_streams()
    if "WORLD_SIZE" in os.environ:
        # torch's log of its connections, with traces of C++: what matters is in our errors.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _end("interrupted", signal.SIGINT)
    except Terminated:
        code = _end("terminated", signal.SIGTERM)
    if "WORLD_SIZE" in os.environ:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End a rank, but for taking down the interpreter.

    Threads of gloo may still free tensors, and wait for the interpreter to do so. When that goes
    down it ends them in the middle of C++, which ends the process with "terminate called".
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
