"""The C reader, built once for all tests that compare it with Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
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
"""The errors of spec/FORMAT.md, numbered from 1 as in the C reader."""

Read = Callable[[bytes], list[str]]


def runtime_sources() -> list[Path]:
    """Return the C files of the runtime."""
    return sorted([*(RUNTIME / "src").glob("sqz_*.c"), *(RUNTIME / "kernels").glob("sqz_*.c")])


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return a function that runs the C reader, with sanitizers, on a file's bytes.

    It returns the printed lines.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler, and there is none in the path")
    folder = tmp_path_factory.mktemp("reader")
    sources = [RUNTIME / "tests" / "read.c", *runtime_sources()]
    program = folder / "read"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for flags in ([*FLAGS, *sanitizers], FLAGS):  # not every compiler has sanitizers
        done = subprocess.run(
            [compiler, *flags, "-o", program, *sources], capture_output=True, text=True
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr

    def run(data: bytes) -> list[str]:
        path = folder / "file.sqz"
        path.write_bytes(data)
        # The program does not free its memory when it refuses a file.
        quiet = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([program, path], capture_output=True, text=True, env=quiet)
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()

    return run


def error_of(lines: list[str]) -> str | None:
    """Return the error of the C reader, or None."""
    words = lines[-1].split()
    return [*ERRORS][int(words[1]) - 1] if words[0] == "error" else None


def layer_line(shape: tuple[int, ...], weights_crc32: str, biases_crc32: str) -> str:
    """Return the line that the C reader must print for a layer."""
    return f"layer {'x'.join(map(str, shape))} weights {weights_crc32} biases {biases_crc32}"


def crc_of_floats(values: npt.NDArray[np.float32]) -> str:
    """Return the CRC-32 of little-endian float32 values, in hex."""
    return f"{zlib.crc32(np.ascontiguousarray(values).astype('<f4').tobytes()):08x}"
