"""The ``squeezenet`` command and its subcommands."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App, CycloptsError

from squeezenet import __version__
from squeezenet.cli.failures import report_errors
from squeezenet.errors import UsageError

app = App(
    name="squeezenet",
    help="A folder of labelled images in, an image classifier of a few hundred kilobytes out.",
    version=__version__,
    help_epilogue="Exit codes: 0 done, 1 failed, 2 wrong use, 3 a quality target was missed, "
    "130 interrupted, 143 terminated.",
    help_format="plaintext",  # <class> is no markup
    suppress_keyboard_interrupt=False,
)
# By name: a command's imports happen when it is called, so that predict starts at once.
for name, function in (
    ("info", "info"),
    ("train", "train"),
    ("eval", "eval_command"),
    ("compress", "compress"),
    ("convert", "convert"),
    ("predict", "predict"),
    ("report", "report"),
    ("export", "export"),
    ("fetch", "fetch"),
    ("demo", "demo"),
):
    app.command(f"squeezenet.cli.{name}:{function}", name=name)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""

    def call() -> None:
        try:
            app(
                list(arguments) if arguments is not None else None,
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
        except CycloptsError as error:
            raise UsageError(f"{' '.join(str(error).split())}; see squeezenet --help") from None

    return report_errors(call)
