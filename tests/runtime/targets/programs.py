"""``runtime/tests/run.c`` as a program of one kind of processor, native or in an emulator."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.runtime.targets import bochs
from tests.runtime.targets.cases import Case, Logits
from tests.runtime.targets.tools import RUNTIME, TargetError, call, install

STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
VALGRIND = ("valgrind", "-q", "--error-exitcode=9")
NODE = ("node", "--no-warnings", "--experimental-wasi-unstable-preview1")
"""Node 18 wants to be asked for WASI; later ones have it, and say that it may change."""
SHOW_NOTHING_KEPT = {"ASAN_OPTIONS": "detect_leaks=0"}
"""The program leaves its memory to the system."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """How to build ``run.c``, and what to put in front of the program to run it.

    ``needs`` are packages, see ``tools.install``; ``processor`` is one that Bochs emulates, which
    makes the launcher; ``fastest`` are the kernels that the program must choose; ``slow`` leaves
    out the larger networks, ``only_fastest`` all other kernels.
    """

    name: str
    about: str
    compiler: str = "gcc"
    flags: tuple[str, ...] = ("-O2",)
    launcher: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)
    processor: str | None = None
    fastest: str | None = None
    slow: bool = False
    only_fastest: bool = False


def _cross(name: str, triple: str, libc: str, about: str, fastest: str = "portable") -> Program:
    """A program for another processor, with its library inside, under QEMU."""
    needs = {
        f"{triple}-gcc": f"gcc-{triple}",
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
        fastest=fastest,
    )


def _emulated(processor: str, kernels: str) -> Program:
    """A program for a processor of Bochs', which takes its time."""
    return Program(
        name=kernels.lower(),
        about=f"{processor} in Bochs",
        flags=("-O2", "-static"),
        needs={"gcc": "gcc", "/usr/lib/x86_64-linux-gnu/libc.a": "libc6-dev"},
        processor=processor,
        fastest=kernels,
        slow=True,
        only_fastest=True,
    )


PROGRAMS = (
    Program(name="x86-64", about="this machine", needs={"gcc": "gcc"}),
    Program(name="sanitizers", about="with AddressSanitizer and UBSan", flags=SANITIZERS),
    Program(name="valgrind", about="under valgrind", launcher=VALGRIND, slow=True),
    _emulated("corei7_icelake_u", "AVX512-VNNI"),
    _emulated("arrow_lake", "AVX-VNNI"),
    _cross("aarch64", "aarch64-linux-gnu", "arm64", "64-bit ARM", "NEON-DOTPROD"),
    _cross("riscv64", "riscv64-linux-gnu", "riscv64", "64-bit RISC-V"),
    _cross("arm", "arm-linux-gnueabihf", "armhf", "32-bit ARM", "ARM-DSP"),
    _cross("s390x", "s390x-linux-gnu", "s390x", "big-endian"),
    Program(
        name="wasm",
        about="WebAssembly in Node",
        compiler="clang",
        flags=("-O2", "--target=wasm32-wasi", "-msimd128"),
        launcher=(*NODE, str(Path(__file__).with_name("wasi.mjs"))),
        needs={
            "clang": "clang",
            "wasm-ld": "lld",
            "/usr/include/wasm32-wasi/stdio.h": "wasi-libc",
            "/usr/share/doc/libclang-rt-dev-wasm32/copyright": "libclang-rt-dev-wasm32",
            "node": "nodejs",
        },
        fastest="WASM-SIMD",
    ),
)


def build(program: Program, work: Path) -> tuple[str, ...] | None:
    """Compile it and return the command that runs it, without arguments; None where a tool that is
    no package of ours is missing.

    Raises:
        TargetError: there are warnings, or something cannot be installed.
    """
    install(program.needs)
    launcher = program.launcher
    if program.processor is not None:
        launcher = bochs.launcher(program.processor, work)
    if launcher and shutil.which(launcher[0]) is None:
        return None
    out = work / f"run-{program.name}"
    sources = sorted([*RUNTIME.glob("src/sqz_*.c"), *RUNTIME.glob("kernels/sqz_*.c")])
    main = RUNTIME / "tests" / "run.c"
    call([program.compiler, *STRICT, *program.flags, "-o", out, main, *sources])
    return (*launcher, str(out))


def check(program: Program, built: tuple[str, ...], case: Case) -> tuple[set[str], int]:
    """Run a case in all modes; return the kernels, and the number of comparisons with the oracle.

    Raises:
        TargetError: the modes differ, the logits are not the oracle's, or other kernels than the
            fastest were chosen.
    """
    only = ("fastest",) if program.only_fastest else ()
    kernels, compared = set(), 0
    for pictures, expected_NK in (("pixels", case.crops_NK), ("ppm", case.picture_K[None])):
        command = [*built, case.file("sqz"), case.file(pictures), *only]
        lines = call(command, env=SHOW_NOTHING_KEPT).splitlines()
        rows = [line.split()[1:] for line in lines if line.startswith("logits ")]
        compare(np.array(rows, np.int64), expected_NK, f"{case.name}.{pictures}")
        if lines[-1] != "all agree":
            raise TargetError(f"{case.name}.{pictures}: {lines[-1]}")
        names = [line.split(",")[0] for line in lines if ": memory " in line]
        if program.fastest not in (None, names[0]):
            raise TargetError(f"chose the kernels {names[0]}, expected {program.fastest}")
        kernels |= set(names)
        compared += len(names) * expected_NK.size
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
