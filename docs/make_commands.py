"""Write ``docs/commands.md``, the reference of the command line, from the commands' own help.

    python docs/make_commands.py            write it
    python docs/make_commands.py --check    exit code 1 if it is not up to date

Needs the package with its extra ``train``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.cli.app import COMMANDS, EXIT_CODES, app, shown_default
from squeezenet.cli.options import RUNNING

if TYPE_CHECKING:
    from cyclopts.argument import Argument

PAGE = Path(__file__).with_name("commands.md")
_HEAD = f"""# Commands

Made by `python docs/make_commands.py` from what `squeezenet COMMAND --help` says; change that,
not this page.

Results go to stdout, progress and messages to stderr. {EXIT_CODES}

A MODEL is a run folder, a `.sqz`, a `.safetensors`, a `.pth`, the authors' `.net`, or the word
`default`; the content decides, not the name. DATA is a folder of class folders, one with `train/`,
`val/` and `test/` of such, [shards](shards.md) of either in a folder or at a URL, or the word
`digits`.
"""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, "| command | does |\n|---|---|"]
    parts += [
        f"| [`squeezenet {name}`](#squeezenet-{name}) | {_cell(command.summary)} |"
        for name, command in COMMANDS.items()
    ]
    parts.append("")
    for name, command in COMMANDS.items():
        parts += [f"## `squeezenet {name}`\n", f"{command.summary}\n"]
        parts += [f"```sh\n{command.example}\n```\n", *_options(name)]
    return "\n".join(parts).rstrip() + "\n"


def _options(name: str) -> Iterator[str]:
    """The table of what a command is for, and the one of how it runs, as its help has them."""
    tables: dict[str, list[str]] = {"": [], RUNNING.name: []}
    for argument in app[name].assemble_argument_collection(parse_docstring=True):
        if argument.show:
            is_running = RUNNING in argument.parameter.group
            row = f"| {_names(argument)} | {_cell(_meaning(argument))} |"
            tables[RUNNING.name if is_running else ""].append(row)
    for title, rows in tables.items():
        if rows:
            head = f"{title}:\n\n" if title else ""
            yield "\n".join([f"{head}| option | what it does |\n|---|---|", *rows, ""])


def _names(argument: Argument) -> str:
    if argument.field_info.is_positional_only:
        name = argument.name.lstrip("-").upper()
        return f"`{name}`" if argument.required else f"`[{name}]`"
    return ", ".join(f"`{name}`" for name in argument.names)


def _meaning(argument: Argument) -> str:
    """The help of an argument, then its choices and default as the command line shows them."""
    parts = [argument.parameter.help or ""]
    if choices := argument.get_choices():
        parts.append(f"[choices: {', '.join(choices)}]")
    default = argument.field_info.default
    if not argument.required and default is not argument.field_info.empty:
        shown = shown_default(default)
        parts += [f"[default: {shown}]"] if shown else []
    if argument.required and not argument.field_info.is_positional_only:
        parts.append("[required]")
    return " ".join(part for part in parts if part)


def _cell(text: str) -> str:
    """Text in a table of Markdown."""
    for mark in "\\*_|[":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("<", "&lt;")


def main() -> int:
    """Write the page, or compare it; return the exit code."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        print(f"{PAGE} is not up to date: run python docs/make_commands.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
