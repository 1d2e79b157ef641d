"""Errors as one line on stderr, and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable

from squeezenet.cli.streams import ClosedOutputError
from squeezenet.cli.table import print_text
from squeezenet.cli.text import one_line
from squeezenet.errors import SqueezeNetError, UsageError
from squeezenet.launch import this_launch

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def report_errors(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; errors become one line on stderr."""
    try:
        command()
        sys.stdout.flush()  # what cannot be written is met here, not when Python has ended
    except SqueezeNetError as error:
        if error.is_shared and not this_launch().speaks:
            return error.exit_code  # another rank of this machine says so
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return fail("interrupted", EXIT_INTERRUPTED)
    except ClosedOutputError:
        return 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f"{error.filename}: " if error.filename else ""
        what = "the disk is full" if full else error.strerror or str(error)
        return fail(f"{where}{what}", EXIT_FAILED)
    except Exception as error:
        if _is_out_of_memory(error):
            return fail(
                "not enough memory; close other programs, or use a machine with more",
                EXIT_FAILED,
            )
        if os.environ.get("SQUEEZENET_DEBUG"):
            import traceback

            traceback.print_exc()
        return fail(
            f"internal error: {type(error).__name__}: {' '.join(str(error).split())}; "
            "please report it, with the traceback that SQUEEZENET_DEBUG=1 shows",
            EXIT_FAILED,
        )
    return 0


def fail(message: str, code: int) -> int:
    """Print the one line of an error and return the exit code."""
    with contextlib.suppress(OSError, ClosedOutputError):
        sys.stdout.flush()  # else Python tries when it ends, and complains in its own words
    # On a terminal, lines break at spaces: a URL or a file name stays whole.
    print_text(f"squeezenet: {_rank()}{one_line(message)}", sys.stderr)
    return code


def _rank() -> str:
    """Return which of several ranks speaks, if it is not the first."""
    with contextlib.suppress(UsageError):
        launch = this_launch()
        if not launch.is_main:
            return f"rank {launch.rank}: "
    return ""


def _is_out_of_memory(error: Exception) -> bool:
    torchs = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or torchs
