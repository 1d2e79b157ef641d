"""The reader in C as a program: what tests that compare it with the reader in Python share."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from squeezenet.errors import (
    ChecksumError,
    FormatError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
)
from tests.conftest import REPOSITORY

RUNTIME = REPOSITORY / "runtime"
FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror"]
ERRORS: dict[str, type[FormatError]] = {
    "unknown format": UnknownFormatError,
    "truncated": TruncatedError,
    "checksum": ChecksumError,
    "unsupported version": UnsupportedVersionError,
    "limit": LimitError,
    "malformed": MalformedError,
}
"""The errors of spec/FORMAT.md, in the order of the reader in C, from 1."""

Read = Callable[[bytes], list[str]]


def runtime_sources() -> list[Path]:
    """The C files of the runtime."""
    return sorted([*(RUNTIME / "src").glob("sqz_*.c"), *(RUNTIME / "kernels").glob("sqz_*.c")])


@cache
def reader_program(folder: Path) -> Path:
    """Compile ``runtime/tests/read.c`` without a warning, with the sanitizers; once per session."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler, and there is none in the path")
    folder.mkdir()
    program = folder / "read"
    sources = [RUNTIME / "tests" / "read.c", *runtime_sources()]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for flags in ([*FLAGS, *sanitizers], FLAGS):  # not every compiler has sanitizers
        done = subprocess.run(
            [compiler, *flags, "-o", program, *sources], capture_output=True, text=True
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Read a file by the C reader; return the lines that it prints."""
    program = reader_program(tmp_path_factory.getbasetemp() / "reader")

    def run(data: bytes) -> list[str]:
        path = program.with_name("file.sqz")
        path.write_bytes(data)
        # The program leaves its memory to the system when it refuses a file.
        quiet = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([program, path], capture_output=True, text=True, env=quiet)
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()

    return run


def error_of(lines: list[str]) -> str | None:
    """Return the kind of error that the C reader ended with, or None."""
    words = lines[-1].split()
    return [*ERRORS][int(words[1]) - 1] if words[0] == "error" else None


def layer_line(shape: tuple[int, ...], weights_crc32: str, biases_crc32: str) -> str:
    """Return the line that the C reader should print for a layer."""
    return f"layer {'x'.join(map(str, shape))} weights {weights_crc32} biases {biases_crc32}"


def crc_of_floats(values: npt.NDArray[np.float32]) -> str:
    """Return the CRC-32 of float32 values, little-endian, as the vectors give it."""
    return f"{zlib.crc32(np.ascontiguousarray(values).astype('<f4').tobytes()):08x}"
