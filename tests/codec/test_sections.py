"""The outer layer of a file at the edges: sizes, versions, the table, each checksum."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from squeezenet.codec.magic import MAGIC, MAX_FILE_BYTES, read_file
from squeezenet.codec.sections import ClientRequirements, Section, pack_sections, read_sections
from squeezenet.errors import (
    ChecksumError,
    FormatError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    UsageError,
)
from tests.codec.test_container import HEADER, Parts, with_levels
from tests.conftest import random_model

SIZES = ClientRequirements(num_weights=4096, largest_channel=2, peak_activations=3)
SECTIONS = {
    Section.GRAPH: b"graph", Section.INPUT: b"", Section.WEIGHTS: b"w", Section.LABELS: b"l",
    Section.RECORD: b"record",
}  # fmt: skip
DATA = pack_sections(1, SIZES, SECTIONS)


def reseal(data: bytes | bytearray) -> bytes:
    """Correct the checksums of the header and of the file."""
    data = bytearray(data)
    end = HEADER + 12 * data[9]
    data[end : end + 4] = struct.pack("<I", zlib.crc32(data[:end]))
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    return bytes(data)


def refused(data: bytes, error: type[FormatError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        read_sections(data, "x")
    assert caught.type is error


def test_layout() -> None:
    assert DATA[:28] == MAGIC + struct.pack("<BBHIIII", 1, 5, 0, len(DATA), 4096, 2, 3)
    kinds = [DATA[28 + 12 * i : 30 + 12 * i].hex() for i in range(5)]
    assert kinds == ["0101", "0201", "0301", "0400", "0500"]
    assert DATA[28 + 60 + 4 : -4] == b"graphwlrecord"
    assert reseal(DATA) == DATA
    assert read_sections(DATA, "x") == (SIZES, SECTIONS)
    assert container.section_sizes(DATA) == {
        "HEADER": len(DATA) - 13, "GRAPH": 5, "INPUT": 0, "WEIGHTS": 1, "LABELS": 1, "RECORD": 6
    }  # fmt: skip
    with_activations = SECTIONS | {Section.ACTIVATIONS: b"a"}
    packed = pack_sections(2, SIZES, with_activations)
    assert packed[88:90].hex() == "0600"
    assert read_sections(packed, "x") == (SIZES, with_activations)


def test_truncation_says_what_is_missing() -> None:
    refused(b"", UnknownFormatError, "does not begin with")
    refused(b"\x89SQX", UnknownFormatError, "does not begin with")
    refused(DATA[:4], TruncatedError, "4 bytes, expected more")
    refused(DATA[:8], TruncatedError, "8 bytes, expected at least 28")
    refused(DATA[:27], TruncatedError, "27 bytes, expected at least 28")
    refused(DATA[:28], TruncatedError, "28 bytes, expected at least 96 for 5 sections")
    refused(DATA[:95], TruncatedError, "95 bytes, expected at least 96 for 5 sections")
    refused(DATA[:96], TruncatedError, f"96 bytes, expected {len(DATA)}")
    refused(DATA[:-1], TruncatedError, f"{len(DATA) - 1} bytes, expected {len(DATA)}")
    refused(DATA + b"x", MalformedError, f"{len(DATA) + 1} bytes, expected {len(DATA)}")


@pytest.mark.parametrize(
    ("version", "message"),
    [(0, "version 0, expected 1 to 2; version 0 was a draft"), (3, "use a newer squeezenet")],
)
def test_other_versions(version: int, message: str) -> None:
    read_sections(pack_sections(2, SIZES, SECTIONS), "x")
    refused(pack_sections(version, SIZES, SECTIONS), UnsupportedVersionError, message)


def test_checksums() -> None:
    for at, message in ((20, "of the header"), (40, "of the header"), (94, "of the file")):
        changed = bytearray(DATA)
        changed[at] ^= 1
        refused(bytes(changed), ChecksumError, f"wrong checksum {message}")
    for i in range(5):
        changed = bytearray(DATA)
        changed[28 + 12 * i + 8] ^= 1
        refused(reseal(changed), ChecksumError, f"wrong checksum of section {i + 1}")


def test_claims_of_size() -> None:
    for claimed, error in ((MAX_FILE_BYTES, TruncatedError), (MAX_FILE_BYTES + 1, LimitError)):
        changed = bytearray(DATA)
        changed[12:16] = struct.pack("<I", claimed)
        refused(reseal(changed), error, str(claimed))
    over = ClientRequirements(num_weights=4097, largest_channel=2, peak_activations=3)
    refused(pack_sections(1, over, SECTIONS), LimitError, "4097 weights, expected at most 4096")
    long = SECTIONS | {Section.WEIGHTS: bytes(1 << 16)}
    most = ClientRequirements(num_weights=1 << 27, largest_channel=2, peak_activations=3)
    read_sections(pack_sections(1, most, long), "x")
    over = ClientRequirements(num_weights=(1 << 27) + 1, largest_channel=2, peak_activations=3)
    refused(pack_sections(1, over, long), LimitError, "expected at most 134217728")


def test_number_of_sections() -> None:
    parts = Parts.of(DATA)
    parts.sections += [[200 + i, 0, 0, b""] for i in range(11)]
    assert read_sections(parts.sealed(), "x") == (SIZES, SECTIONS)
    parts.sections += [[250, 0, 0, b""]]
    refused(parts.sealed(), MalformedError, "header with 17 sections, reserved 0")
    parts.sections = []
    refused(parts.sealed(), MalformedError, "header with 0 sections")


def test_sections_fill_the_file() -> None:
    parts = Parts.of(DATA)
    data = bytearray(parts.sealed())
    data[28 + 12 * 4 + 4] += 1  # RECORD claims one byte more than there is
    refused(reseal(data), MalformedError, "6 bytes are left, expected 7")
    parts.sections[-1][3] = b"recor"
    data = bytearray(parts.sealed())
    data[-4:-4] = b"d"
    data[12:16] = struct.pack("<I", len(data))
    refused(reseal(data), MalformedError, "1 bytes too many")


@pytest.mark.parametrize("kind", [kind for kind in Section if kind is not Section.ACTIVATIONS])
def test_every_section_but_activations_is_needed(kind: Section) -> None:
    sections = {other: body for other, body in SECTIONS.items() if other is not kind}
    refused(pack_sections(1, SIZES, sections), MalformedError, f"section {kind.name} is missing")


def test_file_is_of_the_oldest_version_that_can_hold_it(tiny_record: ModelRecord) -> None:
    model = with_levels(random_model(tiny_record))
    for coder in ("range", "huffman"):
        assert container.encode(model, coder)[8] == 1


def test_files_are_read_whole_but_not_huge_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.sqz"
    with pytest.raises(UsageError, match=r"x\.sqz: no such file"):
        read_file(path)
    path.write_bytes(DATA)
    assert read_file(path) == DATA
    with path.open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(LimitError, match="268435457 bytes, expected at most 268435456 in a .sqz"):
        read_file(path)
