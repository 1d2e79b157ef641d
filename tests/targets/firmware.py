"""``runtime/examples/firmware`` on emulated boards: classifying on bare metal, and its size."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.targets.cases import Case
from tests.targets.programs import compare
from tests.targets.tools import RUNTIME, TargetError, call, install

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
    optimise: str
    large: bool = False


BOARDS = (
    Board(
        name="cortex-m0",
        about="code for a Cortex-M0 on mps2-an386, unaligned access forbidden",
        board="mps2-an386",
        cpu="cortex-m0",
        optimise="-Os",
    ),
    Board(
        name="cortex-m4",
        about="mps2-an386",
        board="mps2-an386",
        cpu="cortex-m4",
        optimise="-O2",
    ),
    Board(
        name="cortex-m7",
        about="mps2-an500",
        board="mps2-an500",
        cpu="cortex-m7",
        optimise="-O3",
        large=True,
    ),
    Board(
        name="cortex-m55",
        about="mps3-an547",
        board="mps3-an547",
        cpu="cortex-m55",
        optimise="-O3",
        large=True,
    ),
    Board(
        name="size",
        about="the Cortex-M7 once more, for size",
        board="mps2-an500",
        cpu="cortex-m7",
        optimise="-Os",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run of the firmware took. ``instructions`` from the picture to the answer."""

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
    best = case.class_names[expected[0]]
    answer = re.search(r"^(\S+%), logit -?\d+, (.*)$", text, re.MULTILINE)
    times = re.search(r"opened after (\d+), answered after (\d+) ticks, (\d+) a second", text)
    sizes = [re.search(rf"^{what}: (\d+) bytes", text, re.M) for what in _SIZES]
    if answer is None or times is None or None in sizes or answer[2] != best:
        raise TargetError(f"{case.name}: expected {best}, found\n{text[:1000]}")
    tables, arena, stack = (int(size[1]) for size in sizes if size)
    opened, answered, clock = (int(number) for number in times.groups())
    return Run(
        tables_bytes=tables,
        arena_bytes=arena,
        stack_bytes=stack,
        # By -icount shift=0 an instruction takes one nanosecond.
        instructions=(answered - opened) * 10**9 // clock,
        answer=f"{answer[2]} {answer[1]}",
    )


_SIZES = ("tables", "arena", "stack")


def code_bytes(board: Board, case: Case, work: Path) -> tuple[int, int]:
    """Return the size of the runtime, code and constants, and of what it takes from libgcc and
    <string.h>, as ``sections.ld`` sets them apart."""
    elf = work / board.name / f"{board.board}-{board.cpu}{board.optimise}" / f"{case.name}.elf"
    text = call(["arm-none-eabi-size", "-A", elf])
    sizes = dict(re.findall(r"^(\.\w+)\s+(\d+)", text, re.MULTILINE))
    return int(sizes[".runtime"]), int(sizes[".support"])
