"""Entry point of the ``squeezenet`` command and of ``python -m squeezenet``.

Signals are met here from the first moment on, before anything slow is imported. Long training
meets them itself (``train/stop.py``), to save its state first.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


class Terminated(BaseException):
    """SIGTERM; like KeyboardInterrupt, nothing but the entry point catches it."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _run(arguments: list[str]) -> int:
    from squeezenet.cli.failures import report_errors

    if arguments[:1] == ["predict"]:
        from squeezenet.cli.plain_predict import plain_predict

        call = plain_predict(arguments[1:])
        if call is not None:
            return report_errors(call)
    from squeezenet.cli.app import run

    return run(arguments)


def main() -> None:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names and class names may hold anything
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        print("squeezenet: interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except Terminated:
        print("squeezenet: terminated", file=sys.stderr)
        code = 128 + signal.SIGTERM
    sys.exit(code)


if __name__ == "__main__":
    main()
