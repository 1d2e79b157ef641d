"""Cross-compile the module for Python and the C example with Zig, and run what can be run here.

    python -m tests.runtime.targets.wheels                      all platforms of the wheels
    python -m tests.runtime.targets.wheels --only win_amd64     some

For each platform: ``squeezenet._native`` as a wheel has it; ``runtime/examples/classify.c``,
``runtime/tests/run.c`` (all kernels) and ``native/tests/pooled.c`` (threads), which run under
QEMU or Wine and must have the oracle's logits. No warning is allowed. Nothing here runs macOS, and
there is no Python for Windows to load the module: what it asks of the system is looked at instead.
Exit code 1 if one does not build, or has other logits. Zig comes from PyPI, emulators from Debian.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from platform import machine

import numpy as np

from tests.runtime.targets.cases import PRESETS, Case, case
from tests.runtime.targets.programs import compare
from tests.runtime.targets.tools import (
    REPOSITORY,
    RUNTIME,
    TargetError,
    call,
    install,
    install_python,
)

WORK = Path("build") / "wheels"
ZIG = "ziglang==0.17.1"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
OPTIMISE = ("-O3", "-fPIC", "-s")
PROGRAMS = {
    "classify": ("examples/classify.c",),
    "run": ("tests/run.c",),
    "pooled": ("../native/tests/pooled.c", "../native/threads.c"),
}
MODULE_FOLDERS = ("native", "runtime/src", "runtime/kernels")
DATA = re.compile(r"PyExc_\w+|_Py_\w+Struct|Py\w+_Type")
"""What Python exports that is no function."""
_LIBRARIES = re.compile(r"python3\.dll|KERNEL32\.dll|api-ms-win-crt-\w+-l1-1-0\.dll", re.IGNORECASE)
"""What a module for Windows may need: Python's stable interface, and what every Windows has."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Where a wheel runs. ``magic`` is what files for it begin with, as ``_kind`` reads them.

    ``launcher`` runs its programs here, None if nothing does; ``needs`` as in ``tools.install``.
    """

    name: str
    triple: str
    magic: str
    suffix: str = "abi3.so"
    link: tuple[str, ...] = ()
    launcher: tuple[str, ...] | None = None
    needs: dict[str, str] = field(default_factory=dict)


_QEMU = "qemu-aarch64-static"
_ARM_LIBRARIES = "/usr/aarch64-linux-gnu"
_EMULATOR = {_QEMU: "qemu-user-static"}
_WINE = "/usr/lib/wine/wine64"
_MAC: dict[str, tuple[str, ...]] = {"link": ("-undefined", "dynamic_lookup")}
PLATFORMS = (
    Platform(name="manylinux_x86_64", triple="x86_64-linux-gnu.2.17", magic="ELF 62", launcher=()),
    Platform(
        name="manylinux_aarch64",
        triple="aarch64-linux-gnu.2.17",
        magic="ELF 183",
        launcher=(_QEMU, "-L", _ARM_LIBRARIES),
        needs={**_EMULATOR, f"{_ARM_LIBRARIES}/lib/libc.so.6": "libc6-arm64-cross"},
    ),
    Platform(name="musllinux_x86_64", triple="x86_64-linux-musl", magic="ELF 62", launcher=()),
    Platform(
        name="musllinux_aarch64",
        triple="aarch64-linux-musl",
        magic="ELF 183",
        launcher=(_QEMU,),
        needs=_EMULATOR,
    ),
    Platform(
        name="win_amd64",
        triple="x86_64-windows-gnu",
        magic="PE 34404",
        suffix="pyd",
        launcher=(_WINE,),
        needs={_WINE: "wine64"},
    ),
    Platform(name="win_arm64", triple="aarch64-windows-gnu", magic="PE 43620", suffix="pyd"),
    Platform(name="macosx_x86_64", triple="x86_64-macos", magic="Mach-O 16777223", **_MAC),
    Platform(name="macosx_arm64", triple="aarch64-macos", magic="Mach-O 16777228", **_MAC),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a platform. ``ran``: its programs, or why they did not."""

    name: str
    module_bytes: int
    ran: str
    kernels: str = ""
    equal: str = ""


class Zig:
    """Zig in a folder of its own, and what it has made so far."""

    def __init__(self, work: Path) -> None:
        self._python = install_python(ZIG, work / "zig")
        # Else it would leave a cache in the folder that it is called from.
        caches = {f"ZIG_{each}_CACHE_DIR": str(work / "cache") for each in ("GLOBAL", "LOCAL")}
        self._env = caches

    def __call__(self, *arguments: str | Path) -> str:
        """Call it, with minutes of time: it compiles each platform's libraries first."""
        return call([self._python, "-m", "ziglang", *arguments], seconds=1800, env=self._env)


def main() -> None:
    names = [platform.name for platform in PLATFORMS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, default=names)
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder to work in ({WORK})")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    zig = Zig(work)
    example = case(PRESETS[-1], work / "cases")
    said = _native_answers(example, work)
    rows, failed = [], []
    for platform in PLATFORMS:
        if platform.name not in options.only:
            continue
        print(f"{platform.name}: {platform.triple}", flush=True)
        try:
            rows.append(_try(platform, zig, example, said, work))
        except TargetError as error:
            failed.append(platform.name)
            print(f"  FAILED: {error}", flush=True)
    print("| platform | module, bytes | ran | kernels | equal |\n|---|--:|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {row.module_bytes:,} | {row.ran} | {row.kernels} | {row.equal} |")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _native_answers(example: Case, work: Path) -> dict[str, str]:
    """What the programs say when this machine's compiler made them; held against the oracle.

    Raises:
        TargetError: they do not build, or have other logits.
    """
    said = {}
    folder = work / "native"
    folder.mkdir(exist_ok=True)
    for name in PROGRAMS:
        built = folder / name
        call(["cc", *STRICT, *OPTIMISE, "-pthread", "-o", built, *_sources(name)])
        said[name] = _run((), built, name, example)
    return said


def _try(platform: Platform, zig: Zig, example: Case, said: dict[str, str], work: Path) -> Row:
    """Build for a platform, and run what runs here.

    Raises:
        TargetError: it does not build without warnings, or has other logits than here.
    """
    folder = work / platform.name
    folder.mkdir(exist_ok=True)
    target = ("-target", platform.triple)
    module = _build_module(platform, zig, folder, work)
    programs = {}
    for name in PROGRAMS:
        programs[name] = folder / (f"{name}.exe" if platform.suffix == "pyd" else name)
        sources = _sources(name)
        zig("cc", *target, *STRICT, *OPTIMISE, "-o", programs[name], *sources)
        _expect_kind(programs[name], platform.magic)
    if platform.launcher is None:
        ran = "nothing: no emulator"
        return Row(name=platform.name, module_bytes=module.stat().st_size, ran=ran)
    install(platform.needs)
    if _WINE in platform.launcher:  # which else says so much when it first runs
        call([_WINE, "wineboot", "--init"], env=_wine(folder))
    kernels: list[str] = []
    for name, built in programs.items():
        found = _run(platform.launcher, built, name, example)
        if _answer(found) != _answer(said[name]):
            raise TargetError(f"{name} says\n{found[:500]}\nand here\n{said[name][:500]}")
        if name == "run":
            kernels = _kernels(found)
    if platform.triple.startswith(machine()) and kernels != _kernels(said["run"]):
        raise TargetError(f"has the kernels {kernels}, and here there are {_kernels(said['run'])}")
    return Row(
        name=platform.name,
        module_bytes=module.stat().st_size,
        ran=", ".join(programs),
        kernels=", ".join(kernels),
        equal="yes",
    )


def _sources(program: str) -> list[Path]:
    own = [RUNTIME / name for name in PROGRAMS[program]]
    return [*own, *sorted(RUNTIME.glob("src/sqz_*.c")), *sorted(RUNTIME.glob("kernels/sqz_*.c"))]


def _run(launcher: tuple[str, ...], built: Path, name: str, example: Case) -> str:
    """Run a program and return what it says.

    Raises:
        TargetError: it fails, or has other logits than the oracle.
    """
    env = _wine(built.parent)
    if name == "classify":
        command = [example.file("sqz"), example.file("ppm")]
        return call([*launcher, built, *command], env=env)
    if name == "pooled":
        return call([*launcher, built, example.file("sqz")], env=env)
    texts = []
    for suffix, expected_NK in (("pixels", example.crops_NK), ("ppm", example.picture_K[None])):
        text = call([*launcher, built, example.file("sqz"), example.file(suffix)], env=env)
        lines = text.splitlines()
        rows = [line.split()[1:] for line in lines if line.startswith("logits ")]
        compare(np.array(rows, np.int64), expected_NK, f"run, {suffix}")
        if lines[-1] != "all agree":
            raise TargetError(f"run, {suffix}: {lines[-1]}")
        texts.append(text)
    return "".join(texts)


def _answer(text: str) -> list[str]:
    """Leave out what ``run.c`` says of each set of kernels: others have others."""
    return [line for line in text.splitlines() if ": memory " not in line]


def _kernels(text: str) -> list[str]:
    """The kernels that ``run.c`` says it ran, the fastest first."""
    names = [line.split(",")[0] for line in text.splitlines() if ": memory " in line]
    return list(dict.fromkeys(names))


def _wine(folder: Path) -> dict[str, str]:
    return {"WINEDEBUG": "-all", "WINEPREFIX": str(folder / "wine")}


def _build_module(platform: Platform, zig: Zig, folder: Path, work: Path) -> Path:
    """Build ``squeezenet._native`` from the folders that setup.py names.

    Raises:
        TargetError: there are warnings, or it is not for this platform.
    """
    sources = [
        path for folder in MODULE_FOLDERS for path in sorted(REPOSITORY.glob(f"{folder}/*.c"))
    ]
    module = folder / f"_native.{platform.suffix}"
    libraries = _import_library(platform, zig, folder) if platform.suffix == "pyd" else ()
    zig(
        *("cc", "-target", platform.triple, "-shared", "-std=c11", "-Wall", "-Werror"),
        *(*OPTIMISE, "-fvisibility=hidden", "-isystem", _headers(work)),
        *("-o", module, *sources, *platform.link, *libraries),
    )
    _expect_kind(module, platform.magic)
    if platform.suffix == "pyd":
        data = module.read_bytes()  # binutils read no Windows on ARM
        needed = {name.decode() for name in re.findall(rb"[\w-]+\.dll", data)}
        if strange := {name for name in needed if not _LIBRARIES.fullmatch(name)}:
            raise TargetError(f"the module needs {', '.join(sorted(strange))}")
        if "python3.dll" not in needed or b"PyInit__native" not in data:
            raise TargetError("the module does not use Python's stable interface")
    return module


def _headers(work: Path) -> Path:
    """Python's headers for the stable interface, with a pyconfig.h that knows all platforms."""
    headers = work / "include"
    if not headers.exists():
        ours = Path(sysconfig.get_paths()["include"])
        shutil.copytree(ours, headers, ignore=shutil.ignore_patterns("pyconfig*.h"))
    (headers / "pyconfig.h").write_text(_PYCONFIG)
    return headers


_PYCONFIG = """\
#define SIZEOF_SHORT __SIZEOF_SHORT__
#define SIZEOF_INT __SIZEOF_INT__
#define SIZEOF_LONG __SIZEOF_LONG__
#define SIZEOF_LONG_LONG __SIZEOF_LONG_LONG__
#define SIZEOF_SIZE_T __SIZEOF_SIZE_T__
#define SIZEOF_VOID_P __SIZEOF_POINTER__
#define SIZEOF_WCHAR_T __SIZEOF_WCHAR_T__
#define HAVE_SSIZE_T 1
#define HAVE_SYS_STAT_H 1
#if defined(_WIN32)
#define MS_WINDOWS
#define MS_WIN32
#define MS_WIN64
#define NT_THREADS
#define HAVE_DECLSPEC_DLL
#define Py_ENABLE_SHARED 1
#include <sys/types.h>
#else
#define HAVE_SYS_TIME_H 1
#define HAVE_SYS_SELECT_H 1
#endif
"""


def _import_library(platform: Platform, zig: Zig, folder: Path) -> tuple[Path]:
    """What stands for python3.dll when linking: the names that the installed module asks for."""
    from squeezenet import _native

    symbols = call(["nm", "-D", "--undefined-only", _native.__file__])
    names = sorted(set(re.findall(r" U (_?Py\w+)", symbols)))
    exports = "".join(f"  {n}{' DATA' if DATA.fullmatch(n) else ''}\n" for n in names)
    definition, library = folder / "python3.def", folder / "python3.lib"
    definition.write_text(f"LIBRARY python3.dll\nEXPORTS\n{exports}")
    machine = "arm64" if platform.triple.startswith("aarch64") else "i386:x86-64"
    zig("dlltool", "-m", machine, "-d", definition, "-l", library)
    return (library,)


def _expect_kind(path: Path, expected: str) -> None:
    found = _kind(path.read_bytes())
    if found != expected:
        raise TargetError(f"{path.name} is {found}, expected {expected}")


def _kind(data: bytes) -> str:
    """The format of a program or library, and its number for the processor."""

    def word(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    if data[:4] == b"\x7fELF":
        return f"ELF {word(18, 2)}"
    if data[:2] == b"MZ":
        return f"PE {word(word(60, 4) + 4, 2)}"
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return f"Mach-O {word(4, 4)}"
    return "of no known kind"


if __name__ == "__main__":
    main()
