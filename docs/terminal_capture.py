"""Run commands and draw what a terminal shows, as an SVG: the picture at the top of the README.

    python docs/terminal_capture.py OUT.svg --title TITLE -- "COMMAND" "COMMAND" ...

The commands run in the current folder, one after the other, each on a pseudo-terminal of its own.
Progress is left out: on a terminal it is a bar that is gone when the work is done.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 92
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""rich names a font of a server; a picture of ours loads nothing."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]")
"""Control sequences other than colours (which end in m)."""


_PROGRESS = re.compile(r"^.* \d+% .*/s, .* left.*\n", re.MULTILINE)


def run(command: str) -> str:
    """Run a shell command on a pseudo-terminal; return what it printed, colours included."""
    main_end, child_end = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, shell=True, stdout=child_end, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(child_end)
        assert process.stderr is not None
        messages = process.stderr.read().decode()
        printed = b""
        while True:
            try:
                part = os.read(main_end, 65536)
            except OSError:  # Linux ends a pseudo-terminal so
                break
            if not part:
                break
            printed += part
    os.close(main_end)
    if process.returncode:
        sys.exit(f"{command}: exit code {process.returncode}\n{messages}")
    messages = _PROGRESS.sub("", messages)
    return messages + _CONTROL.sub("", printed.decode().replace("\r\n", "\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", default="squeezenet")
    parser.add_argument("commands", nargs="+")
    arguments = parser.parse_args()
    console = Console(width=COLUMNS, record=True, force_terminal=True, file=sys.stderr)
    for command in arguments.commands:
        console.print(Text("$ ", style="bold green") + Text(command, style="bold"))
        console.print(Text.from_ansi(run(command).rstrip("\n")))
        console.print()
    svg = _WEB_FONT.sub("", console.export_svg(title=arguments.title))
    arguments.out.write_text(svg.replace("Fira Code", "monospace"), encoding="utf-8")


if __name__ == "__main__":
    main()
