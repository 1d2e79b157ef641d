"""Errors as one line on stderr, and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from squeezenet.cli.text import one_line
from squeezenet.errors import SqueezeNetError

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def report_errors(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; errors become one line on stderr."""
    try:
        command()
    except SqueezeNetError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has ended, as `| head` does; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{'the disk is full' if full else error.strerror}", EXIT_FAILED)
    except Exception as error:
        if os.environ.get("SQUEEZENET_DEBUG"):
            import traceback

            traceback.print_exc()
        return _fail(
            f"internal error: {type(error).__name__}: {' '.join(str(error).split())}; "
            "please report it, with the traceback that SQUEEZENET_DEBUG=1 shows",
            EXIT_FAILED,
        )
    return 0


def _fail(message: str, code: int) -> int:
    print(f"squeezenet: {one_line(message)}", file=sys.stderr)
    return code
