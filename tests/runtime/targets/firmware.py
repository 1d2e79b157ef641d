"""``runtime/examples/firmware`` on emulated boards: classifying on bare metal, and its size."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.runtime.targets.cases import Case
from tests.runtime.targets.programs import compare
from tests.runtime.targets.tools import RUNTIME, TargetError, call, install

FOLDER = RUNTIME / "examples" / "firmware"
NEEDS = {
    "make": "make",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}
MOST_CODE_BYTES = 32 << 10
"""Of the runtime, for the board below, without model and labels."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board of QEMU's, and the processor whose code it gets. ``large``: runs ImageNet's too."""

    name: str
    about: str
    board: str
    cpu: str
    optimise: str = "-O2"
    flags: str = ""
    large: bool = False


_M0 = "code for a Cortex-M0 on mps2-an386, unaligned access forbidden"
_M7: dict[str, str] = {"board": "mps2-an500", "cpu": "cortex-m7"}
BOARDS = (
    Board(name="cortex-m0", about=_M0, board="mps2-an386", cpu="cortex-m0", optimise="-Os"),
    Board(name="cortex-m4", about="mps2-an386", board="mps2-an386", cpu="cortex-m4"),
    Board(name="cortex-m7", about="mps2-an500", **_M7, large=True),
    Board(name="cortex-m55", about="mps3-an547", board="mps3-an547", cpu="cortex-m55", large=True),
    Board(
        name="portable",
        about="a Cortex-M7 with the portable kernels alone",
        **_M7,
        optimise="-O3",
        flags="-DSQZ_ONLY_PORTABLE",
        large=True,
    ),
    Board(name="size", about="a Cortex-M7, for size", **_M7, optimise="-Os"),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run of the firmware took. ``instructions`` from the picture to the answer."""

    kernels: str
    tables_bytes: int
    arena_bytes: int
    stack_bytes: int
    instructions: int
    answer: str


def _variables(board: Board, case: Case, work: Path) -> list[str]:
    variables = {
        "BOARD": board.board,
        "OPT": board.optimise,
        "MODEL": case.file("sqz"),
        "PICTURE": case.file("ppm"),
        "BUILD": work / board.name,
        "PYTHON": sys.executable,
        "CHECK": "1",
        "CPU": board.cpu,
        "EXTRA_CFLAGS": board.flags,
    }
    return [f"{key}={value}" for key, value in variables.items()]


def run(board: Board, case: Case, work: Path) -> Run:
    """Build the firmware with a case's model and picture and run it.

    Raises:
        TargetError: it does not build, ends otherwise than well, or has other logits than the
            oracle.
    """
    install(NEEDS)
    make = ["make", "-s", "-C", FOLDER, *_variables(board, case, work)]
    call([*make, "all"])
    text = call([*make, "run"])
    found = dict(re.findall(r"^class (\d+): (-?\d+)$", text, re.MULTILINE))
    logits_K = np.array([int(found.get(str(k), 0)) for k in range(len(case.picture_K))])
    compare(logits_K[None], case.picture_K[None], case.name)
    ranked = re.findall(r"^class (\d+): ", text, re.MULTILINE)
    expected = np.argsort(-case.picture_K.astype(np.int64), kind="stable")
    if [int(label) for label in ranked] != expected.tolist():
        raise TargetError(f"{case.name}: the classes are in another order")
    said = re.search(_SAID, text)
    best = case.class_names[expected[0]]
    if said is None or said["answer"] != best:
        raise TargetError(f"{case.name}: expected {best}, found\n{text[:1000]}")
    ticks = int(said["answered"]) - int(said["opened"])
    return Run(
        kernels=said["kernels"],
        tables_bytes=int(said["tables"]),
        arena_bytes=int(said["arena"]),
        stack_bytes=int(said["stack"]),
        # By -icount shift=0 an instruction takes one nanosecond.
        instructions=ticks * 10**9 // int(said["clock"]),
        answer=f"{said['answer']} {said['share']}",
    )


_SAID = re.compile(
    r"""tables: (?P<tables>\d+) bytes
arena: (?P<arena>\d+) bytes
stack: (?P<stack>\d+) bytes
opened after (?P<opened>\d+), answered after (?P<answered>\d+) ticks, (?P<clock>\d+) a second
kernels: (?P<kernels>.*)
(?P<share>.*%), logit -?\d+, (?P<answer>.*)
"""
)


def code_bytes(board: Board, case: Case, work: Path) -> tuple[int, int]:
    """Return the size of the runtime, code and constants, and of what it takes from libgcc and
    <string.h>, as ``sections.ld`` sets them apart."""
    elf = work / board.name / f"{board.board}-{board.cpu}{board.optimise}" / f"{case.name}.elf"
    text = call(["arm-none-eabi-size", "-A", elf])
    sizes = dict(re.findall(r"^(\.\w+)\s+(\d+)", text, re.MULTILINE))
    return int(sizes[".runtime"]), int(sizes[".support"])
