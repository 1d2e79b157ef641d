"""The reader in C: it compiles without warnings, agrees with Python, and refuses what Python
refuses."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from squeezenet.codec.types import CodebookWeights, CompressedModel
from squeezenet.codec.weights import _ranked
from squeezenet.errors import FormatError
from tests.codec.test_container import Parts, with_levels
from tests.conftest import REPOSITORY, random_model

RUNTIME = REPOSITORY / "runtime"
FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror"]
ERRORS = {
    "UnknownFormatError": 1, "TruncatedError": 2, "ChecksumError": 3,
    "UnsupportedVersionError": 4, "LimitError": 5, "MalformedError": 6,
}  # fmt: skip

Read = Callable[[bytes], list[str]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Read a file by the C reader, compiled with the sanitizers; return the lines it prints."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler, and there is none in the path")
    folder = tmp_path_factory.mktemp("reader")
    sources = [RUNTIME / "tests" / "read.c", *sorted((RUNTIME / "src").glob("sqz_*.c"))]
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
        # The program leaves its memory to the system when it refuses a file.
        quiet = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([program, path], capture_output=True, text=True, env=quiet)
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()

    return run


def fnv(data: bytes, start: int = 14695981039346656037) -> int:
    for byte in data:
        start = (start ^ byte) * 1099511628211 & (1 << 64) - 1
    return start


def expected(model: CompressedModel) -> list[str]:
    """What the C reader shall print of the layers, from Python's side."""
    lines = []
    for layer in model.layers:
        weights = layer.weights
        bias_bits = layer.bias_O.view(np.uint32).tolist()
        if isinstance(weights, CodebookWeights):
            rows, negatives, positives = _ranked(weights)
            h = fnv(negatives.tobytes() + positives.tobytes())
            for row, bias in zip(rows, bias_bits, strict=True):
                h = fnv(row.tobytes() + struct.pack("<IiI", 0, 0, bias), h)
            lines.append(f"layer 0 shift 0 hash {h:016x}")
            continue
        shift = next(
            s for s in range(31)
            if all(float(b) * 2**s == round(float(b) * 2**s) for b in layer.bias_O)
        )  # fmt: skip
        h = fnv(b"")
        for o, row in enumerate(weights.levels_OIHW):
            scale = int(weights.scales_O.view(np.uint32)[o]) >> 18
            bias = round(float(layer.bias_O[o]) * 2**shift)
            h = fnv(row.tobytes() + struct.pack("<IiI", scale, bias, 0), h)
        lines.append(f"layer 1 shift {shift} hash {h:016x}")
    return lines


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_agrees_with_python(read: Read, tiny_record: ModelRecord, density: float) -> None:
    model = with_levels(random_model(tiny_record, density=density))
    first, *lines, labels, record = read(container.encode(model))
    needs = container.Needs.of(build_graph(tiny_record.spec))
    assert first.startswith(
        f"weights {needs.num_weights} largest {needs.largest_channel} "
        f"peak {needs.peak_activations} "
    )
    assert int(first.rsplit(" ", 1)[1]) <= 16384
    assert lines == expected(model)
    names = "\n".join(tiny_record.class_names).encode()
    assert labels == f"labels {len(names)} bytes, hash {fnv(names):016x}"
    text = tiny_record.to_json(labels=False).encode()
    assert record == f"record {len(text)} bytes, hash {fnv(text):016x}"


def test_refuses_what_python_refuses(read: Read, tiny_record: ModelRecord) -> None:
    data = with_levels(random_model(tiny_record, density=0.3))
    whole = container.encode(data)
    rng = np.random.default_rng(0)
    files = [b"", whole[:5], whole[:20], whole[:60], whole[:-1], whole + b"x", b"no" * 50]
    for _ in range(20):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        files.append(bytes(flipped))
    for i, value in ((1, 3), (3, 1), (5, 1 << 31), (5, 17), (6, 1), (7, 1)):
        parts = Parts.of(whole)
        parts.head[i] = value
        files.append(parts.sealed())
    for field, value in ((1, 2), (1, 0), (2, 5)):
        parts = Parts.of(whole)
        parts.sections[0][field] = value
        files.append(parts.sealed())
    for number, flags in ((99, 1), (1, 1)):
        parts = Parts.of(whole)
        parts.sections.append([number, flags, 0, b"news"])
        files.append(parts.sealed())
    for kind in container.Section:
        for body in (b"", b"\x01", b"\xff" * 40):
            files.append(Parts.of(whole).put(kind, body))
    for data_ in files:
        with pytest.raises(FormatError) as caught:
            container.decode(data_)
        [line] = read(data_)[-1:]
        assert line.startswith("error"), (line, caught.value)
        if caught.type.__name__ != "MalformedError":
            assert line.split()[1] == str(ERRORS[caught.type.__name__]), (line, caught.value)


def test_hostile_graphs_and_weights(read: Read, tiny_record: ModelRecord) -> None:
    whole = container.encode(random_model(tiny_record, density=0.3))
    rng = np.random.default_rng(1)
    refused = 0
    for kind in (container.Section.GRAPH, container.Section.WEIGHTS, container.Section.LABELS):
        body = {number: body for number, _, _, body in Parts.of(whole).sections}[kind]
        for _ in range(40):
            changed = bytearray(body)
            for _ in range(int(rng.integers(1, 4))):
                changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
            refused += read(Parts.of(whole).put(kind, bytes(changed)))[-1].startswith("error")
    assert refused > 60
