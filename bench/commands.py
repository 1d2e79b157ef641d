"""Run the command line as a user does, and compile C programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def squeezenet(*arguments: object) -> dict[str, Any]:
    """Run a command with --json and return its result; its progress goes to stderr."""
    command = [sys.executable, "-m", "squeezenet", *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compile_program(program: Path, *sources: Path, options: tuple[str, ...] = ("-O3",)) -> Path:
    """Compile C sources into a program; return it."""
    subprocess.run(["cc", *options, "-o", program, *sources], check=True)
    return program
