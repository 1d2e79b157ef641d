"""The container: round trips, equal bytes, and every damaged file a typed error."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from squeezenet.codec.entropy import decode_symbols, encode_symbols
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import (
    CodebookWeights,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
    exact_codebook,
)
from squeezenet.errors import (
    ChecksumError,
    FormatError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    WeightsError,
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
    layers = []
    for i, layer in enumerate(model.layers):
        symbols = layer.weights.symbols_OIHW
        levels = (symbols.astype(np.int16) - (symbols != 0) * 8).astype(np.int8)
        scales = np.linspace(0.5, 1, len(layer.bias_O), dtype=np.float32)
        weights = LevelWeights(levels_OIHW=levels, scales_O=scales)
        layers.append(dataclasses.replace(layer, weights=weights) if i % 2 else layer)
    return dataclasses.replace(model, layers=tuple(layers))


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4, 1.0])
def test_round_trip(tiny_record: ModelRecord, density: float) -> None:
    for model in (
        random_model(tiny_record, density=density),
        with_levels(random_model(tiny_record, density=density)),
    ):
        data = container.encode(model)
        assert container.encode(model) == data
        decoded = container.decode(data)
        assert_same(model, decoded)
        assert container.encode(decoded) == data


@given(
    st.lists(st.one_of(st.just(0), st.integers(0, 255)), min_size=1, max_size=2000),
    st.integers(0, 200),
)
@settings(deadline=None)
def test_symbols_round_trip(values: list[int], zeros: int) -> None:
    symbols = np.array([0] * zeros + values + [0] * zeros, np.uint8)
    data, _ = encode_symbols(symbols)
    reader = ByteReader(data, "test")
    np.testing.assert_array_equal(decode_symbols(reader, symbols.size), symbols)
    reader.finish()
    # Never much more than raw: code lengths, counts, and at most 15 bits a symbol and gap.
    assert len(data) <= symbols.size + 200


def test_long_gaps() -> None:
    symbols = np.zeros(100_000, np.uint8)
    symbols[[0, 62, 126, 190, 99_999]] = 7
    data, sizes = encode_symbols(symbols)
    np.testing.assert_array_equal(decode_symbols(ByteReader(data, "x"), symbols.size), symbols)
    assert sizes.gap_bits > 0 and len(data) < 500


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


def sealed(data: bytes) -> bytes:
    """Repair every checksum of a changed file, so that only its content can be at fault."""
    start = 28
    fields = list(struct.unpack_from("<8sHHIII", data))
    fields[3] = len(data)
    fields[5] = zlib.crc32(data[start : start + fields[4]])
    head = struct.pack("<8sHHIII", *fields)
    body = bytearray(data[start:-32])
    place = fields[4]
    while place + 8 <= len(body):
        (size,) = struct.unpack_from("<I", body, place)
        struct.pack_into("<I", body, place + 4, zlib.crc32(body[place + 8 : place + 8 + size]))
        place += 8 + size
    whole = head + struct.pack("<I", zlib.crc32(head)) + bytes(body)
    return whole + hashlib.sha256(whole).digest()


def test_sealing_is_the_identity(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    assert sealed(data) == data


def test_hostile_content_under_good_checksums(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record, density=0.2))
    (record_size,) = struct.unpack_from("<I", data, 16)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(28 + record_size, len(data) - 32))
            changed[place] = int(rng.integers(256))
        try:
            container.decode(sealed(bytes(changed)))
        except FormatError:
            refused += 1
    assert refused > 500  # the rest are other weights, which are weights all the same


def with_record(data: bytes, record: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", data, 16)
    head = bytearray(data[:28])
    struct.pack_into("<I", head, 16, len(record))
    return sealed(bytes(head) + record + data[28 + size :])


def test_record_bombs_and_rubbish(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    with pytest.raises(LimitError, match="record is over"):
        container.decode(with_record(data, zlib.compress(b" " * (1 << 25), 9)))
    with pytest.raises(MalformedError, match="does not decompress"):
        container.decode(with_record(data, b"rubbish"))
    with pytest.raises(MalformedError, match="does not end"):
        container.decode(with_record(data, zlib.compress(b"{}") + b"x"))
    with pytest.raises(MalformedError, match="model record: not JSON"):
        container.decode(with_record(data, zlib.compress(b"[")))
    with pytest.raises(MalformedError):
        container.decode(with_record(data, zlib.compress(b"\xff\xfe")))
    huge = tiny_record.to_json().replace('"num_classes":10', '"num_classes":65536')
    with pytest.raises(MalformedError):
        container.decode(with_record(data, zlib.compress(huge.encode())))


def test_a_claim_of_gigabytes_is_refused_before_memory_is_taken(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    wide = tiny_record.to_json().replace('"e1x1":16,"e3x3":16', '"e1x1":30000,"e3x3":30000')
    wide = wide.replace('"s1x1":8', '"s1x1":30000').replace("identity", "none")
    with pytest.raises(MalformedError, match=r"elements|weights"):
        container.decode(with_record(data, zlib.compress(wide.encode())))


def test_other_versions_and_kinds(tiny_record: ModelRecord) -> None:
    data = bytearray(container.encode(random_model(tiny_record)))
    struct.pack_into("<H", data, 8, 7)
    with pytest.raises(UnsupportedVersionError, match="version 7, expected 0"):
        container.decode(sealed(bytes(data)))
    with pytest.raises(UnknownFormatError):
        container.decode(b"PK\x03\x04 and more")
    with pytest.raises(ChecksumError):
        container.decode(bytes(data))


def test_appended_bytes_are_refused(tiny_record: ModelRecord) -> None:
    with pytest.raises(MalformedError, match="bytes, expected"):
        container.decode(container.encode(random_model(tiny_record)) + b"x")


def test_layers_must_be_the_networks(tiny_record: ModelRecord) -> None:
    model = random_model(tiny_record)
    with pytest.raises(WeightsError, match="not those of the network"):
        CompressedModel(record=tiny_record, layers=model.layers[:-1])
    layer = model.layers[0]
    bad = dataclasses.replace(layer, bias_O=np.full_like(layer.bias_O, np.nan))
    with pytest.raises(WeightsError, match="not a finite number"):
        CompressedModel(record=tiny_record, layers=(bad, *model.layers[1:]))


def test_exact_codebook_keeps_every_bit() -> None:
    values = np.array([0.0, -0.0, 1.5, -2.25, 1e-38], np.float32)
    weight = np.random.default_rng(0).choice(values, (4, 3, 2, 2))
    coded = exact_codebook(weight)
    assert coded is not None
    assert coded.dequantize().view(np.uint32).tolist() == weight.view(np.uint32).tolist()
    many = np.arange(1, 257, dtype=np.float32).reshape(16, 16, 1, 1)
    assert exact_codebook(many) is None
    assert exact_codebook(many[:, :15]) is not None


def test_layer_type_checks() -> None:
    with pytest.raises(AssertionError):
        CodebookWeights(
            codes_OIHW=np.ones((1, 1, 1, 1), np.uint8), codebook=np.zeros(1, np.float32)
        )
    layer = CompressedLayer(
        name="x",
        weights=LevelWeights(
            levels_OIHW=np.array([[[[-3, 0, 5]]]], np.int8), scales_O=np.array([0.5], np.float32)
        ),
        bias_O=np.zeros(1, np.float32),
    )
    assert layer.weights.dequantize().tolist() == [[[[-1.5, 0.0, 2.5]]]]
    assert (layer.num_weights, layer.num_nonzero) == (3, 2)


def test_hostile_records_under_good_checksums(tiny_record: ModelRecord) -> None:
    data = container.encode(random_model(tiny_record))
    text = tiny_record.to_json()

    def refused(changed: str, message: str) -> None:
        assert changed != text
        with pytest.raises(MalformedError, match=message):
            container.decode(with_record(data, zlib.compress(changed.encode())))

    big = text.replace('"crop":[8,8]', '"crop":[4096,4096]').replace('"resize":8', '"resize":4096')
    big = big.replace('"input_size":[8,8]', '"input_size":[4096,4096]')
    refused(big, "expected fewer|expected at most")
    refused(text.replace('"dropout":0.1', f'"dropout":{10**400}'), "too large|not JSON")
    refused(text.replace('"family"', '"name":"x","family"'), "twice")
    refused(text.replace('"c0"', '"c\\n0"'), "printable")
    refused(text.replace('"c0"', '"\\ud800"'), "printable")
    refused(text.replace('"provenance":{}', '"provenance":{"a":1e400}'), "finite")
    deep = "[" * 500 + "]" * 500
    refused(text.replace('"provenance":{}', f'"provenance":{{"a":{deep}}}'), "levels")
    many = ",".join(["[]"] * 20_000)
    refused(text.replace('"provenance":{}', f'"provenance":{{"a":[{many}]}}'), "10000 values")
    broken = bytearray(data)
    struct.pack_into("<H", broken, 10, 3)
    with pytest.raises(MalformedError, match="3 layers, expected the network's 14"):
        container.decode(sealed(bytes(broken)))
