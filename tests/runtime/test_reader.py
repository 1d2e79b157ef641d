"""The reader in C: it compiles without warnings, agrees with Python, and refuses what Python
refuses."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from squeezenet.errors import FormatError
from tests.codec.test_container import Parts, with_levels
from tests.conftest import random_model
from tests.runtime.c_reader import ERRORS, Read, crc_of_floats, error_of, layer_line


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_agrees_with_python(read: Read, tiny_record: ModelRecord, density: float) -> None:
    model = with_levels(random_model(tiny_record, density=density))
    first, *lines, labels, record = read(container.encode(model))
    needs = container.ClientRequirements.of(build_graph(tiny_record.spec))
    assert first.startswith(
        f"weights {needs.num_weights} largest {needs.largest_channel} "
        f"peak {needs.peak_activations} "
    )
    assert int(first.rsplit(" ", 1)[1]) <= 16384
    assert lines == [
        layer_line(
            layer.weights.symbols_OIHW.shape,
            crc_of_floats(layer.weights.dequantize()),
            crc_of_floats(layer.bias_O),
        )
        for layer in model.layers
    ]
    names = "\n".join(tiny_record.class_names).encode()
    assert labels == f"labels {len(names)} bytes, CRC-32 {zlib.crc32(names):08x}"
    text = tiny_record.to_json(labels=False).encode()
    assert record == f"record {len(text)} bytes, CRC-32 {zlib.crc32(text):08x}"


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
    for kind in list(container.Section)[:5]:  # the reader in C leaves ACTIVATIONS to sqz_load
        for body in (b"", b"\x01", b"\xff" * 40):
            files.append(Parts.of(whole).put(kind, body))
    for data_ in files:
        with pytest.raises(FormatError) as caught:
            container.decode(data_)
        error = error_of(read(data_))
        assert error is not None, caught.value
        if error != "malformed":
            assert caught.type is ERRORS[error], caught.value


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
