"""GRAPH, INPUT and ACTIVATIONS by hand, byte for byte, and their limits."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.spec import AlexNetSpec, ConvSpec, FireSpec, PoolSpec, SqueezeNetSpec
from squeezenet.codec.client_sections import (
    activation_bytes,
    graph_bytes,
    input_bytes,
    read_activations,
    require_counts,
)
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import ActivationScale
from squeezenet.errors import LimitError, MalformedError, SpecError

SPEC = SqueezeNetSpec(
    name="n",
    stem=ConvSpec(out_channels=200, kernel=3, stride=2, padding=1),
    fires=(FireSpec(s1x1=4, e1x1=130, e3x3=70, bypass="identity"),),
    pools=(PoolSpec(after="conv1"),),
    num_classes=128,
    input_size=(300, 20),
)


def test_graph() -> None:
    conv, max_pool, add, average = 1, 2, 3, 4
    values = [
        8,  # tensors: input, conv1, pool1, fire2/squeeze, fire2/expand, fire2, conv10, logits
        3, 300, 20, 200, 150, 10, 200, 75, 5, 4, 75, 5, 200, 75, 5, 200, 75, 5, 128, 75, 5,
        128, 1, 1,
        8,  # operations
        # source, target, first channel, channels, kernel, stride, padding, groups, ReLU
        conv, 0, 1, 0, 200, 3, 3, 2, 1, 1, 1,
        max_pool, 1, 2, 3, 2,
        conv, 2, 3, 0, 4, 1, 1, 1, 0, 1, 1,
        conv, 3, 4, 0, 130, 1, 1, 1, 0, 1, 1,
        conv, 3, 4, 130, 70, 3, 3, 1, 1, 1, 1,
        add, 4, 5, 2,
        conv, 5, 6, 0, 128, 1, 1, 1, 0, 1, 0,
        average, 6, 7,
    ]  # fmt: skip
    expected = b"".join(bytes([v]) if v < 128 else bytes([v % 128 + 128, v // 128]) for v in values)
    assert graph_bytes(build_graph(SPEC)) == expected


def test_local_response_normalisation_and_large_counts() -> None:
    spec = AlexNetSpec(
        name="a",
        convs=(ConvSpec(out_channels=4, kernel=1, groups=2, lrn=True),),
        pools=(),
        hidden=(),
        num_classes=65_536,
        input_channels=2,
        input_size=(1, 1),
    )
    data = graph_bytes(build_graph(spec))
    convolution = bytes([1, 0, 1, 0, 4, 1, 1, 1, 0, 2, 1])
    norm = bytes([5, 1, 2, 5])
    classifier = bytes([1, 2, 3, 0, 128, 128, 4, 1, 1, 1, 0, 1, 0])
    assert data == bytes([4, 2, 1, 1, 4, 1, 1, 4, 1, 1, 128, 128, 4, 1, 1, 3]) + (
        convolution + norm + classifier
    )


def test_number_of_operations_is_limited() -> None:
    graph = build_graph(SPEC)
    *body, last = graph.operations
    for count, refused in ((4096, False), (4097, True)):
        long = dataclasses.replace(graph, operations=(*body[:1] * (count - 1), last))
        if refused:
            with pytest.raises(SpecError, match="4097 tensors or operations, expected at most"):
                graph_bytes(long)
        else:
            graph_bytes(long)


def count_bytes(value: int) -> bytes:
    return struct.pack("BB", value % 128 + 128, value // 128) if value > 127 else bytes([value])


def test_counts_are_limited_before_they_are_compared() -> None:
    require_counts(count_bytes(4096) + bytes([1, 1, 1]) * 4096 + count_bytes(4096), "x")
    # Two-byte numbers are skipped as one each.
    require_counts(b"\x01" + count_bytes(300) * 3 + b"\x05", "x")
    with pytest.raises(LimitError, match="x: 4097 tensors, expected at most 4096"):
        require_counts(count_bytes(4097), "x")
    with pytest.raises(LimitError, match="x: 4097 operations, expected at most 4096"):
        require_counts(b"\x01" + count_bytes(300) * 3 + count_bytes(4097), "x")
    with pytest.raises(LimitError, match="268435455 tensors"):
        require_counts(b"\xff\xff\xff\x7f", "x")


@pytest.mark.parametrize("data", [b"", b"\x81", b"\xff\xff\xff\xff\x7f", b"\x02\x01\x01"])
def test_incomplete_counts_are_left_to_the_comparison(data: bytes) -> None:
    require_counts(data, "x")


def preprocessing(**changes: object) -> Preprocessing:
    values = {
        "resize": 300, "crop": (224, 20), "channels": "BGR",
        "mean": (1.5, -2.0, 0.25), "std": (1.0, 0.5, 2.0),
    }  # fmt: skip
    return Preprocessing(**values | changes)


def test_input() -> None:
    one = 1 << 16
    expected = struct.pack("<BHHH", 2, 300, 224, 20)
    expected += struct.pack("<iiiiii", 3 * one // 2, one, -2 * one, one // 2, one // 4, 2 * one)
    assert input_bytes(preprocessing()) == expected
    for code, channels in enumerate(("L", "RGB")):
        n = 3 if channels == "RGB" else 1
        data = input_bytes(preprocessing(channels=channels, mean=(0.0,) * n, std=(1.0,) * n))
        assert data[0] == code and len(data) == 7 + 8 * n


def test_input_halves_are_rounded_to_even() -> None:
    data = input_bytes(preprocessing(mean=(0.5 / 65536, 1.5 / 65536, 2.5 / 65536)))
    assert struct.unpack("<iiiiii", data[7:])[::2] == (0, 2, 2)


@pytest.mark.parametrize(
    ("name", "value"), [("mean", 32768.0), ("mean", -32768.1), ("std", 32768.0), ("std", 1e-6)]
)
def test_input_that_a_file_cannot_store(name: str, value: float) -> None:
    for good in (preprocessing(mean=(-32768.0, 32767.9, 0.0)), preprocessing(std=(2**-16,) * 3)):
        input_bytes(good)
    with pytest.raises(SpecError, match="expected a mean within 32767 and a std"):
        input_bytes(preprocessing(**{name: (1.0, value, 1.0)}))


def test_activations() -> None:
    graph = build_graph(SPEC)
    names = scaled_tensors(graph)
    assert names == ("conv1", "fire2/squeeze", "fire2/expand", "fire2")
    scales = (1.0, 1.5, 2**-126, float.fromhex("0x1.fep127"))
    activations = {
        name: ActivationScale(scale=scale, zero_point=zero_point)
        for name, scale, zero_point in zip(names, scales, (0, 7, 255, 128), strict=True)
    }
    data = activation_bytes(activations)
    assert data.hex() == "803f00" + "c03f07" + "8000ff" + "7f7f80"
    assert read_activations(ByteReader(data, "x"), graph) == activations


@pytest.mark.parametrize("bits", [0x0000, 0x007F, 0x7F80, 0x7FC0, 0x8080, 0xBF80])
def test_activation_scales_must_be_positive_and_normal(bits: int) -> None:
    data = struct.pack("<HB", 0x3F80, 0) + struct.pack("<HB", bits, 0) + bytes([128, 63, 0]) * 2
    with pytest.raises(MalformedError, match=f"fire2/squeeze: activation scale 0x{bits:04x}"):
        read_activations(ByteReader(data, "x"), build_graph(SPEC))


def test_activations_must_be_as_many_as_the_graph_has() -> None:
    graph = build_graph(SPEC)
    data = bytes([128, 63, 0]) * 4
    read_activations(ByteReader(data, "x"), graph)
    with pytest.raises(MalformedError, match="2 bytes are left, expected 3"):
        read_activations(ByteReader(data[:-1], "x"), graph)
    with pytest.raises(MalformedError, match="1 bytes too many"):
        read_activations(ByteReader(data + b"x", "x"), graph)
