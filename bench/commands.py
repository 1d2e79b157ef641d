"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def squeezenet(*arguments: object) -> dict[str, Any]:
    """Run a command that prints JSON and return what it printed; progress passes through."""
    command = [sys.executable, "-m", "squeezenet", *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
