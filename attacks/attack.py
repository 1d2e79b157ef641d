"""An attack, and how it is run: through the command line, as on a victim's machine."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 1 << 30
"""More than reading any valid file of these kinds takes, torch included."""
SECONDS = 60
"""CPU time. Every attack ends in a few seconds; this leaves room for slow machines."""
PROOF = "attacked"
"""Foreign code that runs creates a file of this name in the attack's folder."""
HOME = "home"
"""A folder of this name in the attack's folder is the victim's: nothing in it may change."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack: its goal, why it fails, and how the command must end.

    ``make`` writes the hostile files into a folder and returns the arguments of ``squeezenet``. The
    command must end with ``exit_code``; ``message`` must be in its one line of error, or in its
    output if the exit code is 0.
    """

    name: str
    goal: str
    defence: str
    make: Callable[[Path], list[str]]
    message: str
    exit_code: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of an attack; ``fault`` is None if the attack failed, as it must."""

    fault: str | None
    seconds: float
    peak_bytes: int
    output: str


_MEASURED = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, *sys.argv[2:]])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code if code >= 0 else 128 - code)
"""
"""A program begins with the memory peak of the one that starts it, so that must be a small one."""


def run_attack(attack: Attack, folder: Path) -> Outcome:
    """Run an attack in an empty folder and check its result."""
    arguments = attack.make(folder)
    out, err, peak = (folder / name for name in ("stdout.txt", "stderr.txt", "peak.txt"))
    before = _contents(folder / HOME)
    started = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _MEASURED, str(peak), "-m", "squeezenet", *arguments],
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            preexec_fn=_limit_time,
        )
        exit_code = process.wait()
    peak_bytes = int(peak.read_text()) * (1 if sys.platform == "darwin" else 1024)
    error, printed = err.read_bytes(), out.read_bytes()
    fault = _fault(attack, exit_code, peak_bytes, error, printed, folder)
    if fault is None and _contents(folder / HOME) != before:
        fault = "files of the victim have changed"
    return Outcome(
        fault=fault,
        seconds=time.monotonic() - started,
        peak_bytes=peak_bytes,
        output=(error or printed).decode("utf-8", "backslashreplace").strip(),
    )


def _contents(folder: Path) -> dict[Path, bytes]:
    files = sorted(folder.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else b"" for path in files}


def _limit_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))


def _fault(
    attack: Attack, exit_code: int, peak_bytes: int, error: bytes, printed: bytes, folder: Path
) -> str | None:
    if (folder / PROOF).exists():
        return "foreign code ran"
    if exit_code != attack.exit_code:
        return f"exit code {exit_code}, expected {attack.exit_code}"
    if peak_bytes > MEMORY_BYTES:
        return f"took {peak_bytes:,} bytes of memory"
    if exit_code and error.count(b"\n") != 1:
        return "the error is not one line"
    if attack.message.encode() not in (error if exit_code else printed):
        return f"the output lacks {attack.message!r}"
    # The control characters of a terminal: C0 except the line feed, delete, and C1.
    text = (error + printed).decode("utf-8", "replace")
    if any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in text):
        return "control characters reached the terminal"
    return None
