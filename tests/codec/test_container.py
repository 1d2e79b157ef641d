"""The container: round trips, equal bytes, and a typed error for every damaged file."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from squeezenet._native import Encoder
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.range_text import encode_text
from squeezenet.codec.types import (
    CompressedLayer,
    CompressedModel,
    LevelWeights,
)
from squeezenet.errors import (
    FormatError,
    LimitError,
    MalformedError,
    SpecError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
)
from tests.conftest import random_model


def assert_same(a: CompressedModel, b: CompressedModel) -> None:
    assert a.record == b.record
    for x, y in zip(a.layers, b.layers, strict=True):
        assert type(x.weights) is type(y.weights)
        bits = (layer.weights.dequantize().view(np.uint32) for layer in (x, y))
        np.testing.assert_array_equal(*bits)
        np.testing.assert_array_equal(x.bias_O, y.bias_O)


def with_levels(model: CompressedModel) -> CompressedModel:
    """Replace every other layer of a random model by one with levels."""
    layers = []
    for i, layer in enumerate(model.layers):
        symbols = layer.weights.symbols_OIHW
        levels = (symbols.astype(np.int16) - (symbols != 0) * 8).astype(np.int8)
        scales = round_scales(np.linspace(0.5, 1, len(layer.bias_O)))
        weights = LevelWeights(levels_OIHW=levels, scales_O=scales)
        replaced = CompressedLayer(
            name=layer.name, weights=weights, bias_O=round_biases(layer.bias_O, 0.01)
        )
        layers.append(replaced if i % 2 else layer)
    return dataclasses.replace(model, layers=tuple(layers))


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("coder", ["range", "huffman"])
def test_round_trip(
    tiny_record: ModelRecord, density: float, coder: container.EntropyCoder
) -> None:
    for model in (
        random_model(tiny_record, density=density),
        with_levels(random_model(tiny_record, density=density)),
    ):
        data = container.encode(model, coder)
        assert container.encode(model, coder) == data
        decoded = container.decode(data)
        assert_same(model, decoded)
        assert container.encode(decoded, coder) == data
        sizes = container.section_sizes(data)
        assert sum(sizes.values()) == len(data)


def test_every_truncation_is_refused(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    for length in range(len(data)):
        with pytest.raises((TruncatedError, UnknownFormatError)):
            container.decode(data[:length])


def test_every_bit_flip_is_refused(tiny_record: ModelRecord) -> None:
    data = bytearray(container.encode(random_model(tiny_record, density=0.1)))
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            with pytest.raises(FormatError):
                container.decode(bytes(data))
            data[position] ^= 1 << bit


HEADER = 28
ENTRY = 12


@dataclass
class Parts:
    """The parts of a file, to be changed and sealed again with correct checksums."""

    head: list[Any]  # the header's fields
    sections: list[list[Any]]  # number, flags, reserved, body

    @staticmethod
    def of(data: bytes) -> Parts:
        head = list(struct.unpack_from("<8sBBHIIII", data))
        place = HEADER + ENTRY * head[2] + 4
        sections = []
        for i in range(head[2]):
            *entry, size, _ = struct.unpack_from("<BBHII", data, HEADER + ENTRY * i)
            sections.append([*entry, data[place : place + size]])
            place += size
        return Parts(head, sections)

    def sealed(self) -> bytes:
        entries = b"".join(
            struct.pack("<BBHII", number, flags, reserved, len(body), zlib.crc32(body))
            for number, flags, reserved, body in self.sections
        )
        body = b"".join(section[3] for section in self.sections)
        self.head[2] = len(self.sections)
        self.head[4] = HEADER + len(entries) + 4 + len(body) + 4
        data = struct.pack("<8sBBHIIII", *self.head) + entries
        data += struct.pack("<I", zlib.crc32(data)) + body
        return data + struct.pack("<I", zlib.crc32(data))

    def put(self, kind: container.Section, body: bytes) -> bytes:
        """Return the file with another body in a section."""
        [section] = [section for section in self.sections if section[0] == kind]
        section[3] = body
        return self.sealed()


def test_parts_round_trip(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    assert Parts.of(data).sealed() == data


@pytest.mark.parametrize("coder", ["range", "huffman"])
def test_random_weights_with_correct_checksums_never_crash(
    tiny_record: ModelRecord, coder: container.EntropyCoder
) -> None:
    data = container.encode(random_model(tiny_record, density=0.2), coder)
    weights = Parts.of(data).sections[2][3]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        changed = bytearray(weights)
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(0, len(changed)))] = int(rng.integers(256))
        try:
            container.decode(Parts.of(data).put(container.Section.WEIGHTS, bytes(changed)))
        except FormatError:
            refused += 1
    assert refused > 250  # the others are valid files with other weights


def test_hostile_header(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))

    def refused(error: type[FormatError], message: str, change: Callable[[Parts], None]) -> None:
        parts = Parts.of(data)
        change(parts)
        with pytest.raises(error, match=message):
            container.decode(parts.sealed())

    def head(i: int, value: int) -> Callable[[Parts], None]:
        return lambda parts: parts.head.__setitem__(i, value)

    def section(i: int, field: int, value: int) -> Callable[[Parts], None]:
        return lambda parts: parts.sections[i].__setitem__(field, value)

    refused(UnsupportedVersionError, "version 7, expected 1", head(1, 7))
    refused(MalformedError, "header with 5 sections, reserved 1", head(3, 1))
    refused(LimitError, "weights, expected at most", head(5, 1 << 31))
    refused(MalformedError, "has 17 weights.*expected 15776, 144, 6144", head(5, 17))
    refused(MalformedError, "1 in the largest channel", head(6, 1))
    refused(MalformedError, "1 activations", head(7, 1))
    refused(MalformedError, "flags 2", section(0, 1, 2))
    refused(MalformedError, "flags 1, reserved 1", section(0, 2, 1))
    refused(MalformedError, "GRAPH has flags 0, expected 1", section(0, 1, 0))
    refused(MalformedError, "RECORD has flags 1, expected 0", section(4, 1, 1))
    refused(
        MalformedError,
        "two sections GRAPH",
        lambda parts: parts.sections.append(parts.sections[0]),
    )
    refused(MalformedError, "section RECORD is missing", lambda parts: parts.sections.pop())
    refused(
        MalformedError,
        "header with 17 sections",
        lambda parts: parts.sections.extend([[99, 0, 0, b""]] * 12),
    )
    refused(
        UnsupportedVersionError,
        "mandatory section 99 is unknown",
        lambda parts: parts.sections.append([99, 1, 0, b"news"]),
    )
    extended = Parts.of(data)
    extended.sections.append([99, 0, 0, b"news"])
    assert_same(container.decode(extended.sealed()), container.decode(data))


def test_sections_must_match_the_record(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    for kind in (container.Section.GRAPH, container.Section.INPUT):
        with pytest.raises(MalformedError, match=f"section {kind.name} does not match the record"):
            container.decode(Parts.of(data).put(kind, b"rubbish"))


def with_record(data: bytes, record: str) -> bytes:
    return Parts.of(data).put(container.Section.RECORD, encode_text(record))


def test_hostile_text(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    record = container.Section.RECORD
    with pytest.raises(LimitError, match="text of 2147483647 bytes, expected at most 4194304"):
        container.decode(Parts.of(data).put(record, b"\xff\xff\xff\x7f" + b"x" * 50))
    with pytest.raises(MalformedError, match="does not end"):
        container.decode(Parts.of(data).put(record, encode_text("{}") + b"rubbish"))
    with pytest.raises(MalformedError, match="bytes are left"):
        container.decode(Parts.of(data).put(record, b""))
    with pytest.raises(MalformedError, match="not JSON"):
        container.decode(with_record(data, "["))
    invalid = b"\x02\0\0\0" + _coded(b"\xff\xfe")
    with pytest.raises(MalformedError, match="UTF-8"):
        container.decode(Parts.of(data).put(record, invalid))
    labels = container.Section.LABELS
    with pytest.raises(MalformedError, match="kind of ids 3, expected 0 to 2"):
        container.decode(Parts.of(data).put(labels, b"\3" + encode_text("a")))
    with pytest.raises(MalformedError, match="1 lines, expected as many ids as names"):
        container.decode(Parts.of(data).put(labels, b"\2" + encode_text("a")))
    with pytest.raises(MalformedError, match="class names"):
        container.decode(Parts.of(data).put(labels, b"\0" + encode_text("a\nb")))
    with pytest.raises(UnsupportedVersionError, match="entropy coder 9"):
        container.decode(Parts.of(data).put(container.Section.WEIGHTS, b"\x09" * 99))


def _coded(data: bytes) -> bytes:
    encoder = Encoder()
    before = 0
    for byte in data:
        before = encoder.byte(before, byte)
    return encoder.finish()


def test_class_ids_of_any_kind_round_trip(tiny_record: ModelRecord) -> None:
    listed = dataclasses.replace(
        tiny_record, class_ids=tuple(f"id{i}" for i in range(tiny_record.spec.num_classes))
    )
    model = random_model(listed)
    assert container.decode(container.encode(model)).record == listed
    names, ids = imagenet_classes()
    spec = dataclasses.replace(tiny_record.spec, num_classes=1000)
    imagenet = dataclasses.replace(tiny_record, spec=spec, class_names=names, class_ids=ids)
    data = container.encode(random_model(imagenet))
    assert container.decode(data).record == imagenet
    assert container.section_sizes(data)["LABELS"] < 5500


def test_a_record_of_a_huge_network_is_refused(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    wide = tiny_record.to_json(labels=False)
    wide = wide.replace('"e1x1":16,"e3x3":16', '"e1x1":30000,"e3x3":30000')
    wide = wide.replace('"s1x1":8', '"s1x1":30000').replace("identity", "none")
    with pytest.raises(LimitError, match=r"elements|weights"):
        container.decode(with_record(data, wide))


def test_other_kinds(tiny_record: ModelRecord) -> None:
    with pytest.raises(UnknownFormatError):
        container.decode(b"PK\x03\x04 and more")


def test_preprocessing_that_a_file_cannot_hold(tiny_record: ModelRecord) -> None:
    far = dataclasses.replace(tiny_record.preprocessing, mean=(1e5,))
    with pytest.raises(SpecError, match="expected a mean within 32767"):
        container.encode(random_model(dataclasses.replace(tiny_record, preprocessing=far)))


def test_appended_bytes_are_refused(tiny_record: ModelRecord) -> None:
    with pytest.raises(MalformedError, match="bytes, expected"):
        container.decode(container.encode(random_model(tiny_record)) + b"x")


def test_hostile_records_with_correct_checksums(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    text = tiny_record.to_json(labels=False)

    def refused(changed: str, message: str, error: type[FormatError] = MalformedError) -> None:
        assert changed != text
        with pytest.raises(error, match=message):
            container.decode(with_record(data, changed))

    big = text.replace('"crop":[8,8]', '"crop":[4096,4096]').replace('"resize":8', '"resize":4096')
    big = big.replace('"input_size":[8,8]', '"input_size":[4096,4096]')
    refused(big, "expected fewer|expected at most", LimitError)
    refused(text.replace('"dropout":0.1', f'"dropout":{10**400}'), "too large|not JSON")
    refused(text.replace('"family"', '"name":"x","family"'), "duplicate key")
    refused(text.replace('"provenance"', '"class_names":["a"],"provenance"'), "section LABELS")
    refused(text.replace('"provenance":{}', '"provenance":{"a":1e400}'), "finite")
    deep = "[" * 500 + "]" * 500
    refused(text.replace('"provenance":{}', f'"provenance":{{"a":{deep}}}'), "levels")
    many = ",".join(["[]"] * 20_000)
    refused(text.replace('"provenance":{}', f'"provenance":{{"a":[{many}]}}'), "10000 values")
