"""Processors that this machine is not, by BochsCPU: its package, and the command that runs it."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.targets.tools import call, install, install_python

HERE = Path(__file__).parent
PACKAGE = "bochscpu-python==0.4.0"
"""``bochs.c`` replaces a function of this version."""


def launcher(processor: str, work: Path) -> tuple[str, ...]:
    """Return what to put in front of a program to run it on a processor, see ``emulate.py``.

    Raises:
        TargetError: BochsCPU cannot be installed.
    """
    install({"gcc": "gcc"})
    python = install_python(PACKAGE, work / "bochscpu")
    shim = work / "bochs.so"
    call(["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", shim, HERE / "bochs.c"])
    return (str(python), str(HERE / "emulate.py"), str(shim), processor)
