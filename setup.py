"""What pyproject.toml cannot say: how the compilers are called.

GCC and Clang get -O3. For Windows it is Zig that compiles, whatever else is installed: it is Clang,
so the fast kernels are in the module, which are written with attributes of GCC and Clang and which
Microsoft's compiler would leave out. Nor is Visual Studio needed then, and the same compiler is
tried under Wine by tests/targets/wheels.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ZIG_TARGETS = {
    "win-amd64": "x86_64-windows-gnu",
    "win-arm64": "aarch64-windows-gnu",
    "win32": "x86-windows-gnu",
}


class BuildNative(build_ext):
    """Compile with the options of the compiler that is there."""

    def build_extension(self, ext: Extension) -> None:
        if self.plat_name in ZIG_TARGETS:
            self._build_by_zig(ext)
        else:
            ext.extra_compile_args = ["-O3"]
            super().build_extension(ext)

    def _build_by_zig(self, ext: Extension) -> None:
        """Compile and link by one command; python3.lib is Python's stable interface."""
        made = Path(self.build_temp) / "_native.dll"  # linking leaves other files beside it
        made.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[self.plat_name]]
        command += ["-shared", "-std=c11", "-O3", "-s", "-DNDEBUG", "-fvisibility=hidden"]
        if self.plat_name != "win32":
            command.append("-DMS_WIN64")  # Python's pyconfig.h knows it of Microsoft's compiler
        command += [f"-I{folder}" for folder in [*ext.include_dirs, *self.include_dirs]]
        command += [*ext.sources, "-o", str(made)]
        command += [f"-L{folder}" for folder in self.library_dirs if Path(folder).is_dir()]
        self.spawn([*command, "-lpython3"])
        to = Path(self.get_ext_fullpath(ext.name))
        to.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(made), str(to))


setup(cmdclass={"build_ext": BuildNative})
