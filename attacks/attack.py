"""What an attack is, and how one is carried out: by the command line, as a victim would be."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 1 << 30
"""More than reading any good file of these kinds takes, torch included."""
SECONDS = 60
"""Processors are shared and slow at times; every attack is over in a few seconds."""
PROOF = "attacked"
"""A file of this name in the attack's folder is there only if foreign code ran."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """``make`` writes the hostile files into a folder and returns the arguments of ``squeezenet``.

    ``why`` says why it fails; ``exit_code`` and ``message`` are how the command must end, and what
    its one line must say (of exit code 0: what the output must hold).
    """

    name: str
    wants: str
    why: str
    make: Callable[[Path], list[str]]
    message: str
    exit_code: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``fault`` is None where the attack failed as it must."""

    fault: str | None
    seconds: float
    peak_bytes: int
    said: str


def carry_out(attack: Attack, folder: Path) -> Outcome:
    """Run an attack in an empty folder and judge what became of it."""
    arguments = attack.make(folder)
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    started = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "squeezenet", *arguments],
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            preexec_fn=_limit_time,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    said, printed = err.read_bytes(), out.read_bytes()
    return Outcome(
        fault=_fault(attack, process.returncode, usage.ru_maxrss * unit, said, printed, folder),
        seconds=time.monotonic() - started,
        peak_bytes=usage.ru_maxrss * unit,
        said=(said or printed).decode("utf-8", "backslashreplace").strip(),
    )


def _limit_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))


def _fault(
    attack: Attack, exit_code: int, peak_bytes: int, said: bytes, printed: bytes, folder: Path
) -> str | None:
    if (folder / PROOF).exists():
        return "foreign code ran"
    if exit_code != attack.exit_code:
        return f"exit code {exit_code}, expected {attack.exit_code}"
    if peak_bytes > MEMORY_BYTES:
        return f"took {peak_bytes:,} bytes of memory"
    if exit_code and said.count(b"\n") != 1:
        return "not one line of error"
    if attack.message.encode() not in (said if exit_code else printed):
        return f"does not say {attack.message!r}"
    # What a terminal obeys, in UTF-8: C0 but for the line feed, delete, and C1.
    text = (said + printed).decode("utf-8", "replace")
    if any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in text):
        return "control characters reached the terminal"
    return None
