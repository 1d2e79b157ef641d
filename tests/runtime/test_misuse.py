"""Wrong use of the runtime is an error, never a crash: runtime/tests/misuse under the sanitizers,
and the same from Python where a buffer could be too short."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from squeezenet._native import NativeModel
from squeezenet.arch.graph import Graph, MaxPool, build_graph
from squeezenet.arch.quantized_tensors import find_head
from squeezenet.client import Classifier
from squeezenet.codec.client_sections import graph_bytes
from squeezenet.codec.container import ClientRequirements, Section, encode
from squeezenet.errors import UsageError
from tests.codec.test_container import Parts
from tests.conftest import REPOSITORY
from tests.runtime.c_reader import FLAGS, RUNTIME, runtime_sources
from tests.runtime.networks import random_network

ACCEPT = REPOSITORY / "spec" / "vectors" / "accept"
INTEGER, FLOAT = ACCEPT / "integer.sqz", ACCEPT / "codebook.sqz"
GROUPS = (
    "null",
    "room",
    "pictures",
    "order",
    "options",
    "addresses",
    "threads",
    "damage",
    "float",
    "limits",
)
ASAN = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
WRONG_USE = 9


def build(folder: Path, *flags: str) -> Path:
    """Compile the program without a warning; skip where the compiler cannot make such a one."""
    compiler = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    if compiler is None:
        pytest.skip("needs a C compiler, and there is none in the path")
    empty, program = folder / "empty.c", folder / "misuse"
    empty.write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n')
    command = [compiler, *flags, "-pthread", "-o", program]
    trial = subprocess.run([*command, empty], capture_output=True, text=True)
    if trial.returncode or subprocess.run([program], capture_output=True).returncode:
        pytest.skip(f"{Path(compiler).name} {' '.join(flags)} makes no program that runs here")
    sources = [*sorted((RUNTIME / "tests" / "misuse").glob("*.c")), *runtime_sources()]
    done = subprocess.run([*command, *FLAGS, *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path, model: Path, *group: str) -> list[str]:
    """Return the lines of one group of cases, or of all; none may be WRONG."""
    done = subprocess.run(
        [program, model, FLOAT, *group],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"TSAN_OPTIONS": "exitcode=66"},
    )
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert not wrong, "\n".join(wrong)
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[-1] == "0 wrong"
    return lines


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("misuse"), *ASAN)


@pytest.mark.parametrize("group", GROUPS)
def test_is_an_error(sanitized: Path, group: str) -> None:
    lines = run(sanitized, INTEGER, group)
    assert sum(line.startswith("ok") for line in lines) >= 1


@pytest.mark.parametrize("seed", [0, 8])
def test_of_other_networks(sanitized: Path, tmp_path: Path, seed: int) -> None:
    (tmp_path / "m.sqz").write_bytes(encode(random_network(seed)))
    for group in ("room", "addresses", "threads"):
        lines = run(sanitized, tmp_path / "m.sqz", group)
        assert sum(line.startswith("ok") for line in lines) >= 1, group


def test_threads_without_a_race(tmp_path: Path) -> None:
    program = build(tmp_path, "-g", "-fsanitize=thread")
    lines = run(program, INTEGER, "threads")
    assert any("4 threads on one context" in line for line in lines)


def test_with_addresses_of_32_bits(tmp_path: Path) -> None:
    lines = run(build(tmp_path, "-m32", *ASAN), INTEGER)
    assert sum(line.startswith("-- ") for line in lines) == len(GROUPS) - 2


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 7])
def test_operations_after_the_head(sanitized: Path, tmp_path: Path, seed: int) -> None:
    """No network of ours has them. sqz_classify must not lose the logits to what runs there."""
    model = random_network(seed)
    assert model.record.spec.num_classes > 16  # so many that they reach what would overwrite them
    parts = Parts.of(encode(model))
    graph = _with_pools_after_the_head(build_graph(model.record.spec))
    needs = ClientRequirements.of(graph)
    parts.head[5:] = [needs.num_weights, needs.largest_channel, needs.peak_activations]
    (tmp_path / "m.sqz").write_bytes(parts.put(Section.GRAPH, graph_bytes(graph)))
    lines = run(sanitized, tmp_path / "m.sqz", "addresses")
    assert any(line.startswith("ok") and "the same logits" in line for line in lines)


def _with_pools_after_the_head(graph: Graph) -> Graph:
    *body, last = graph.operations
    assert body[-1] is find_head(graph)
    source = body[0].target
    tensors = dict(graph.tensors)
    for name in ("one", "two"):  # what nobody reads
        body.append(MaxPool(name=name, source=source, target=name, kernel=1, stride=1))
        tensors[name] = dataclasses.replace(tensors[source], name=name)
        source = name
    return dataclasses.replace(graph, operations=(*body, last), tensors=tensors)


# From Python.


@pytest.fixture(scope="module")
def network() -> NativeModel:
    return NativeModel(INTEGER.read_bytes())


def _room(network: NativeModel) -> tuple[bytearray, bytearray]:
    height, width, channels = network.crop_shape
    return bytearray(height * width * channels), bytearray(4 * network.num_classes)


@pytest.mark.parametrize(("pixels", "logits"), [(-1, 0), (1, 0), (0, -1), (0, 1), (0, -4), (0, 4)])
def test_buffers_of_another_size(network: NativeModel, pixels: int, logits: int) -> None:
    good_pixels, good_logits = _room(network)
    with pytest.raises(ValueError, match="called wrongly") as caught:
        network.run(bytes(len(good_pixels) + pixels), bytearray(len(good_logits) + logits))
    assert caught.value.args[0] == WRONG_USE


def test_buffers_that_cannot_be_used(network: NativeModel) -> None:
    pixels, logits = _room(network)
    for wrong in (bytes(logits), memoryview(logits).toreadonly(), None, "text"):
        with pytest.raises((TypeError, BufferError)):
            network.run(pixels, wrong)
    for wrong in (None, "text", np.zeros((4, 4), np.uint8)[:, ::2]):
        with pytest.raises((TypeError, BufferError, ValueError)):
            network.run(wrong, logits)
    network.run(pixels, logits)


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [(0, 0, 0), (0, 0, 5), (0, 5, 0), (74, 5, 5), (76, 5, 5), (75, 5, 6), (3, 2**31, 2**31)],
)
def test_pictures_that_are_none(network: NativeModel, size: int, height: int, width: int) -> None:
    pixels, _ = _room(network)
    with pytest.raises(ValueError, match=r"called wrongly|more than"):
        network.crop(bytes(size), height, width, pixels)


def test_networks_that_cannot_be_made(network: NativeModel) -> None:
    for arguments in ((), ("text",), (bytearray(INTEGER.read_bytes()),), (None,)):
        with pytest.raises(TypeError):
            NativeModel(*arguments)
    with pytest.raises(ValueError, match=r"called wrongly|more than"):
        NativeModel(INTEGER.read_bytes(), threads=65)
    with pytest.raises(ValueError, match="unknown feature"):
        NativeModel(INTEGER.read_bytes(), kernels="abacus")
    with pytest.raises(ValueError, match="float32 alone"):
        NativeModel(FLOAT.read_bytes())
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copied(network)
    with pytest.raises(TypeError):
        NativeModel.__new__(NativeModel)


def test_more_threads_than_there_may_be() -> None:
    with pytest.raises(UsageError, match="65 threads"):
        Classifier(INTEGER, threads=65)
