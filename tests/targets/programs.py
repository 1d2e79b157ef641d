"""``runtime/tests/run.c`` as a program of one kind of processor, native or under QEMU."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.targets.cases import Case, Logits
from tests.targets.tools import RUNTIME, TargetError, call, install

ALL_KERNELS = "-DSQZ_ALL_KERNELS"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", ALL_KERNELS)
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
VALGRIND = ("valgrind", "-q", "--error-exitcode=9")
SHOW_NOTHING_KEPT = {"ASAN_OPTIONS": "detect_leaks=0"}
"""The program leaves its memory to the system."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """How to build ``run.c``, and what to put in front of the program to run it.

    ``needs`` are packages, see ``tools.install``; ``slow`` leaves out the larger networks.
    """

    name: str
    about: str
    compiler: str = "gcc"
    flags: tuple[str, ...] = ("-O2",)
    launcher: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)
    slow: bool = False


def _cross(name: str, triple: str, package: str, libc: str, about: str) -> Program:
    """A program for another processor, with its library inside, under QEMU."""
    needs = {
        f"{triple}-gcc": f"gcc-{package}",
        f"/usr/{triple}/lib/libc.a": f"libc6-dev-{libc}-cross",
        f"qemu-{name}-static": "qemu-user-static",
    }
    return Program(
        name=name,
        about=about,
        compiler=f"{triple}-gcc",
        flags=("-O2", "-static"),
        launcher=(f"qemu-{name}-static",),
        needs=needs,
    )


PROGRAMS = (
    Program(name="x86-64", about="this machine", needs={"gcc": "gcc"}),
    Program(name="sanitizers", about="with AddressSanitizer and UBSan", flags=SANITIZERS),
    Program(name="valgrind", about="under valgrind", launcher=VALGRIND, slow=True),
    _cross("aarch64", "aarch64-linux-gnu", "aarch64-linux-gnu", "arm64", "64-bit ARM"),
    _cross("riscv64", "riscv64-linux-gnu", "riscv64-linux-gnu", "riscv64", "64-bit RISC-V"),
    _cross("arm", "arm-linux-gnueabihf", "arm-linux-gnueabihf", "armhf", "32-bit ARM"),
    _cross("s390x", "s390x-linux-gnu", "s390x-linux-gnu", "s390x", "big-endian"),
)


def build(program: Program, work: Path) -> Path | None:
    """Compile it; None where a tool that is no package of ours is missing.

    Raises:
        TargetError: there are warnings.
    """
    install(program.needs)
    if program.launcher and shutil.which(program.launcher[0]) is None:
        return None
    out = work / f"run-{program.name}"
    sources = sorted([*RUNTIME.glob("src/sqz_*.c"), *RUNTIME.glob("kernels/sqz_*.c")])
    main = RUNTIME / "tests" / "run.c"
    call([program.compiler, *STRICT, *program.flags, "-o", out, main, *sources])
    return out


def check(program: Program, built: Path, case: Case) -> tuple[set[str], int]:
    """Run a case in all ways; return the kernels, and the number of comparisons with the oracle.

    Raises:
        TargetError: the ways differ, or the logits are not the oracle's.
    """
    kernels, compared = set(), 0
    for pictures, expected_NK in (("pixels", case.crops_NK), ("ppm", case.picture_K[None])):
        command = [*program.launcher, built, case.file("sqz"), case.file(pictures)]
        lines = call(command, env=SHOW_NOTHING_KEPT).splitlines()
        rows = [line.split()[1:] for line in lines if line.startswith("logits ")]
        compare(np.array(rows, np.int64), expected_NK, f"{case.name}.{pictures}")
        if lines[-1] != "all agree":
            raise TargetError(f"{case.name}.{pictures}: {lines[-1]}")
        ways = [line.split(",")[0] for line in lines if ": memory " in line]
        kernels |= set(ways)
        compared += len(ways) * expected_NK.size
    return kernels, compared


def compare(found_NK: np.ndarray, expected_NK: Logits, where: str) -> None:
    """Hold logits against the oracle's.

    Raises:
        TargetError: names the first that differs.
    """
    if found_NK.shape != expected_NK.shape:
        raise TargetError(f"{where}: logits {found_NK.shape}, expected {expected_NK.shape}")
    wrong = np.argwhere(found_NK != expected_NK)
    if len(wrong):
        n, k = wrong[0]
        raise TargetError(
            f"{where}: picture {n}, class {k}: {found_NK[n, k]}, the oracle says "
            f"{expected_NK[n, k]}; {len(wrong)} of {found_NK.size} differ"
        )
