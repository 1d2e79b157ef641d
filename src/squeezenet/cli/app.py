"""The ``squeezenet`` command and its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from cyclopts import App, CycloptsError, Parameter

from squeezenet import __version__
from squeezenet.cli.failures import report_errors
from squeezenet.cli.parser_errors import parser_error
from squeezenet.cli.suggest import see_help, unknown
from squeezenet.errors import UsageError
from squeezenet.launch import this_launch


class Command(NamedTuple):
    """``function`` is in the module of the command's name; help shows ``summary``."""

    function: str
    summary: str
    example: str


COMMANDS = {
    "train": Command(
        "train",
        "Train or fine-tune a network, or resume a stopped run.",
        "squeezenet train photos --out run",
    ),
    "compress": Command(
        "compress",
        "Compress a model to a .sqz file and measure what it lost.",
        "squeezenet compress run --data photos --out photos.sqz",
    ),
    "predict": Command(
        "predict",
        "Name the class of each image, with probabilities.",
        "squeezenet predict photos.sqz new/*.jpg",
    ),
    "eval": Command(
        "eval_command",
        "Measure top-1 and top-5 accuracy on labelled images.",
        "squeezenet eval photos.sqz photos --against run",
    ),
    "report": Command(
        "report",
        "Write a page of curves, mistakes and layers, and a model card.",
        "squeezenet report photos.sqz photos --out report",
    ),
    "card": Command(
        "card",
        "Write the model card, with the metadata that model hubs read.",
        "squeezenet card photos.sqz photos --out README.md",
    ),
    "info": Command(
        "info",
        "Show a network's layers, parameters, operations and memory.",
        "squeezenet info photos.sqz",
    ),
    "export": Command(
        "export",
        "Write a .sqz as C source, a web page or ONNX.",
        "squeezenet export photos.sqz --to c --out photos-c",
    ),
    "serve": Command(
        "serve",
        "Open a page that classifies pictures in the browser.",
        "squeezenet serve photos.sqz",
    ),
    "convert": Command(
        "convert",
        "Convert a model file without loss, or to 16-bit weights.",
        "squeezenet convert run run.safetensors",
    ),
    "shard": Command(
        "shard",
        "Write labelled images as tar shards, for sets of any size.",
        "squeezenet shard imagenet imagenet-shards",
    ),
    "explore": Command(
        "explore",
        "Compare networks, or search for the best in a budget.",
        "squeezenet explore sr photos --out study",
    ),
    "fetch": Command(
        "fetch",
        "List published weights; download and verify them by name.",
        "squeezenet fetch squeezenet1_1",
    ),
    "demo": Command(
        "demo",
        "Train, compress, evaluate and predict on embedded digits.",
        "squeezenet demo --out demo",
    ),
}
"""In the order of use. Modules are named, not imported: help and ``predict`` start at once."""
_OF_SEVERAL_RANKS = ("train", "compress", "eval")
"""What torchrun may start several processes of."""
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 a quality target was missed, 130 interrupted, "
    "143 terminated."
)


def shown_default(value: object) -> str | None:
    """What help says of a default: nothing where it is none, or a flag that is off."""
    return None if value is None or value is False else str(value)


app = App(
    name="squeezenet",
    help="A folder of labelled images in, an image classifier of a few hundred kilobytes out.\n\n"
    + "\n".join(f"  {COMMANDS[name].example}" for name in ("train", "compress", "predict")),
    version=__version__,
    help_epilogue=EXIT_CODES,
    help_format="plaintext",  # <class> is no markup
    default_parameter=Parameter(show_default=shown_default),
    suppress_keyboard_interrupt=False,
)
for i, (name, command) in enumerate(COMMANDS.items()):
    app.command(
        f"squeezenet.cli.{name}:{command.function}",
        name=name,
        help=command.summary,
        sort_key=i,
        help_epilogue=f"Example: {command.example}\n\n{EXIT_CODES}",
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def call() -> None:
        if this_launch().num_ranks > 1 and words[:1] and words[0] not in _OF_SEVERAL_RANKS:
            raise UsageError(
                f"{words[0]}: works in one process, and torchrun started "
                f"{this_launch().num_ranks}; start it without torchrun"
            )
        known = [*COMMANDS, "--help", "-h", "--version"]
        if words and words[0] not in known:
            what = "option" if words[0].startswith("-") else "command"
            raise UsageError(f"{unknown(what, words[0], known)} {see_help()}")
        try:
            app(words, exit_on_error=False, print_error=False, result_action="return_value")
        except CycloptsError as error:
            command = words[0] if words and words[0] in COMMANDS else ""
            raise parser_error(error, command) from None

    return report_errors(call)
