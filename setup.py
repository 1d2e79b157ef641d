"""The parts of the build that need code: the extension module, the runtime for the web, compilers.

GCC and Clang compile with -O3. For Windows, Zig compiles, whatever else is installed. It is Clang,
so the module has the fast kernels: they need attributes of GCC and Clang, and Microsoft's compiler
would leave them out. Visual Studio is then not needed either. tests/runtime/targets/wheels.py tries
the same compiler under Wine.

Zig also compiles the runtime to WebAssembly, in five builds. Where there is no Zig, the rest is
installed without them.
"""

from __future__ import annotations

import importlib.util
import sys
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FOLDERS = ("native", "runtime/src", "runtime/kernels")
ZIG_TARGETS = {
    "win-amd64": "x86_64-windows-gnu",
    "win-arm64": "aarch64-windows-gnu",
    "win32": "x86-windows-gnu",
}
WEB_PACKAGE = "squeezenet._web."
_SIMD = ["-msimd128", "-mbulk-memory", "-msign-ext"]
_RELAXED = [*_SIMD, "-mrelaxed-simd"]
WEB_BUILDS = {
    "relaxed-threads": [*_RELAXED, "-matomics"],
    "relaxed": _RELAXED,
    "simd-threads": [*_SIMD, "-matomics"],
    "simd": _SIMD,
    "plain": ["-mcpu=mvp"],
}
"""By the instructions that each uses."""
SHARED_MEMORY = [
    "-matomics",
    "-mbulk-memory",
    "-Wl,--import-memory",
    "-Wl,--shared-memory",
    "-Wl,--max-memory=536870912",
    "-Wl,--export=__stack_pointer",
]
"""For the linker: each thread has a stack of its own in the memory that the host makes, which
``web/sqz.js`` gives as many pages."""
UNROLLED = ("sqz_wasm.c", "sqz_wasm_relaxed.c")
FAST = ("sqz_decode.c", "sqz_image.c", "sqz_operations.c")
"""Sources of the web runtime in which the time goes: loops of the former are unrolled. The others
are compiled for size, the portable kernels too where others are at hand."""


def native_module() -> Extension:
    """Return ``squeezenet._native``: the runtime, for any CPython from 3.11 on."""
    files = [path.as_posix() for folder in FOLDERS for path in sorted(Path(folder).glob("*.[ch]"))]
    return Extension(
        "squeezenet._native",
        sources=[file for file in files if file.endswith(".c")],
        depends=["runtime/sqz.h", *(file for file in files if file.endswith(".h"))],
        py_limited_api=True,
    )


def web_runtimes() -> list[Extension]:
    """Return the builds of the runtime for the web."""
    folders = ("web/src", "runtime/src", "runtime/kernels")
    files = [path.as_posix() for folder in folders for path in sorted(Path(folder).glob("*.[ch]"))]
    return [
        Extension(
            f"{WEB_PACKAGE}sqz-{build}",
            sources=[file for file in files if file.endswith(".c")],
            depends=["runtime/sqz.h", *(file for file in files if file.endswith(".h"))],
            extra_compile_args=flags,
            optional=True,
        )
        for build, flags in WEB_BUILDS.items()
    ]


class BuildNative(build_ext):
    """Compile with the options of the compiler in use."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.rpartition(".")[2].startswith("sqz-"):
            return fullname.replace(".", "/") + ".wasm.zlib"
        return str(super().get_ext_filename(fullname))

    def build_extension(self, ext: Extension) -> None:
        if ext.name.startswith(WEB_PACKAGE):
            self._build_for_the_web(ext)
        elif self.plat_name in ZIG_TARGETS:
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

    def _web_level(self, ext: Extension, source: str) -> list[str]:
        """Return how much a source of the web runtime is optimised."""
        is_plain = "-msimd128" not in ext.extra_compile_args
        if source in UNROLLED or (is_plain and source == "sqz_portable.c"):
            return ["-O3"]
        return ["-O3", "-fno-unroll-loops"] if source in FAST else ["-Os"]

    def _build_for_the_web(self, ext: Extension) -> None:
        """Compile a module, and pack it."""
        if importlib.util.find_spec("ziglang") is None:
            raise CompileError("no Zig, so no web pages: pip install ziglang")
        temp = Path(self.build_temp) / ext.name
        temp.mkdir(parents=True, exist_ok=True)
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding"]
        options = ["-std=c11", "-DNDEBUG", "-fvisibility=hidden", "-fno-sanitize=undefined"]
        options += ["-Iruntime/examples/firmware/include", *ext.extra_compile_args]
        objects = []
        for source in ext.sources:
            objects.append(str(temp / f"{Path(source).stem}.o"))
            level = self._web_level(ext, Path(source).name)
            self.spawn([*zig, *options, *level, "-c", source, "-o", objects[-1]])
        module = temp / "sqz.wasm"
        link = ["-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536"]
        if "-matomics" in ext.extra_compile_args:
            link += SHARED_MEMORY
        self.spawn([*zig, *link, *objects, "-o", str(module)])
        to = Path(self.get_ext_fullpath(ext.name))
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(zlib.compress(module.read_bytes(), 9))


setup(ext_modules=[native_module(), *web_runtimes()], cmdclass={"build_ext": BuildNative})
