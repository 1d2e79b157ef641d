"""The parts of the build that need code: the extension module's sources, and the compilers.

GCC and Clang compile with -O3. For Windows, Zig compiles, whatever else is installed. It is Clang,
so the module has the fast kernels: they need attributes of GCC and Clang, and Microsoft's compiler
would leave them out. Visual Studio is then not needed either. tests/runtime/targets/wheels.py tries
the same compiler under Wine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDERS = ("native", "runtime/src", "runtime/kernels")
ZIG_TARGETS = {
    "win-amd64": "x86_64-windows-gnu",
    "win-arm64": "aarch64-windows-gnu",
    "win32": "x86-windows-gnu",
}


def native_module() -> Extension:
    """Return ``squeezenet._native``: the runtime, for any CPython from 3.11 on."""
    files = [path.as_posix() for folder in FOLDERS for path in sorted(Path(folder).glob("*.[ch]"))]
    return Extension(
        "squeezenet._native",
        sources=[file for file in files if file.endswith(".c")],
        depends=["runtime/sqz.h", *(file for file in files if file.endswith(".h"))],
        py_limited_api=True,
    )


class BuildNative(build_ext):
    """Compile with the options of the compiler in use."""

    def build_extension(self, ext: Extension) -> None:
        if self.plat_name in ZIG_TARGETS:
            self._build_by_zig(ext)
        else:
            ext.extra_compile_args = ["-O3"]
            super().build_extension(ext)

    def _build_by_zig(self, ext: Extension) -> None:
        """Compile and link by one command; python3.lib is Python's stable interface."""
        made = Path(self.build_temp) / "_native.dll"  # the linker leaves other files beside it
        made.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[self.plat_name]]
        command += ["-shared", "-std=c11", "-O3", "-s", "-DNDEBUG", "-fvisibility=hidden"]
        if self.plat_name != "win32":
            command.append("-DMS_WIN64")  # which pyconfig.h defines for Microsoft's compiler alone
        command += [f"-I{folder}" for folder in [*ext.include_dirs, *self.include_dirs]]
        command += [*ext.sources, "-o", str(made)]
        command += [f"-L{folder}" for folder in self.library_dirs if Path(folder).is_dir()]
        self.spawn([*command, "-lpython3"])
        to = Path(self.get_ext_fullpath(ext.name))
        to.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(made), str(to))


setup(ext_modules=[native_module()], cmdclass={"build_ext": BuildNative})
