"""The ``squeezenet`` command: its subcommands, its exit codes, its one-line errors."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from squeezenet import __version__
from squeezenet.cli.compress import compress
from squeezenet.cli.convert import convert
from squeezenet.cli.demo import demo
from squeezenet.cli.display import one_line
from squeezenet.cli.eval import eval_command
from squeezenet.cli.export import export
from squeezenet.cli.fetch import fetch
from squeezenet.cli.info import info
from squeezenet.cli.predict import predict
from squeezenet.cli.report import report
from squeezenet.cli.train import train
from squeezenet.errors import SqueezeNetError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = App(
    name="squeezenet",
    help="A folder of labelled images in, an image classifier of a few hundred kilobytes out.",
    version=__version__,
    help_epilogue="Exit codes: 0 done, 1 failed, 2 wrong use, 3 a quality target was missed, "
    "130 interrupted, 143 terminated.",
    help_format="plaintext",  # <class> is no markup
    suppress_keyboard_interrupt=False,
)
for command, name in (
    (info, "info"),
    (train, "train"),
    (eval_command, "eval"),
    (compress, "compress"),
    (convert, "convert"),
    (predict, "predict"),
    (report, "report"),
    (export, "export"),
    (fetch, "fetch"),
    (demo, "demo"),
):
    app.command(command, name=name)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    try:
        app(
            list(arguments) if arguments is not None else None,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except SqueezeNetError as error:
        return _fail(str(error), error.exit_code)
    except CycloptsError as error:
        return _fail(f"{' '.join(str(error).split())}; see squeezenet --help", EXIT_USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{'the disk is full' if full else error.strerror}", EXIT_FAILED)
    except Exception as error:
        if os.environ.get("SQUEEZENET_DEBUG"):
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
