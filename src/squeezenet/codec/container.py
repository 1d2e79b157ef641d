"""The ``.sqz`` container: sections with checksums. spec/FORMAT.md has every byte.

Decoding checks everything before it believes it: a file that is damaged or hostile ends in one
``FormatError``, and what is allocated is bounded by ``arch``'s limits and by the file's length.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

from squeezenet.arch.graph import MAX_WEIGHTS, Graph, build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.client_sections import (
    activation_bytes,
    graph_bytes,
    input_bytes,
    read_activations,
    require_counts,
)
from squeezenet.codec.labels import label_bytes, split_labels
from squeezenet.codec.magic import MAGIC, MAX_FILE_BYTES, read_file
from squeezenet.codec.range_text import decode_text, encode_text
from squeezenet.codec.range_weights import (
    MAX_WEIGHTS_PER_BYTE,
    decode_weights,
    encode_weights,
    has_trellis,
)
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import CompressedLayer, CompressedModel
from squeezenet.errors import (
    ChecksumError,
    LimitError,
    MalformedError,
    SpecError,
    TooLargeError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    WeightsError,
)

VERSION = 2
"""The last there is; files that need no more than version 1 are of that."""
EntropyCoder = Literal["range", "huffman"]

_HEADER = struct.Struct("<8sBBHIIII")
_SECTION = struct.Struct("<BBHII")
_CRC = struct.Struct("<I")
_MANDATORY = 1
_MAX_SECTIONS = 16
_CODERS: tuple[EntropyCoder, ...] = ("huffman", "range")


class Section(IntEnum):
    """The kinds of sections that this version knows, in the order in which they are written."""

    GRAPH = 1
    INPUT = 2
    WEIGHTS = 3
    LABELS = 4
    RECORD = 5
    ACTIVATIONS = 6


_OPTIONAL = {Section.ACTIVATIONS}
_NEEDED_BY_CLIENTS = {Section.GRAPH, Section.INPUT, Section.WEIGHTS}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the header says that a client must have room for, in levels and activations."""

    num_weights: int
    largest_channel: int
    peak_activations: int

    @staticmethod
    def of(graph: Graph) -> Needs:
        """Work the needs out."""
        return Needs(
            num_weights=sum(conv.num_weights for conv in graph.convs),
            largest_channel=max(conv.num_weights // conv.out_channels for conv in graph.convs),
            peak_activations=peak_activation_bytes(graph),
        )


def encode(model: CompressedModel, coder: EntropyCoder = "range") -> bytes:
    """Return the file's bytes; equal models give equal bytes.

    Raises:
        SpecError: the preprocessing cannot be held.
        WeightsError: biases beside levels that cannot be held.
    """
    graph = build_graph(model.record.spec)
    needs = Needs.of(graph)
    weights = encode_weights
    version = 2 if coder == "range" and has_trellis(model.layers) else 1
    if coder == "huffman":
        from squeezenet.codec.huffman_weights import encode_weights as weights
    sections = {
        Section.GRAPH: graph_bytes(graph),
        Section.INPUT: input_bytes(model.record.preprocessing),
        Section.WEIGHTS: bytes([_CODERS.index(coder)]) + weights(model.layers),
        Section.LABELS: label_bytes(model.record.class_names, model.record.class_ids),
        Section.RECORD: encode_text(model.record.to_json(labels=False)),
    }
    if model.activations is not None:
        sections[Section.ACTIVATIONS] = activation_bytes(model.activations)
    table = b"".join(
        _SECTION.pack(kind, kind in _NEEDED_BY_CLIENTS, 0, len(body), zlib.crc32(body))
        for kind, body in sections.items()
    )
    body = b"".join(sections.values())
    num_bytes = _HEADER.size + len(table) + _CRC.size + len(body) + _CRC.size
    head = _HEADER.pack(
        MAGIC,
        version,
        len(sections),
        0,
        num_bytes,
        needs.num_weights,
        needs.largest_channel,
        needs.peak_activations,
    )
    data = head + table
    data += _CRC.pack(zlib.crc32(data)) + body
    return data + _CRC.pack(zlib.crc32(data))


def decode(data: bytes, where: str = "file") -> CompressedModel:
    """Read ``encode``'s bytes; ``where`` names them in errors.

    Raises:
        UnknownFormatError, TruncatedError, ChecksumError, UnsupportedVersionError,
        MalformedError, LimitError: each as its name says.
    """
    record, graph, sections = _decode_record(data, where)
    trellis = data[len(MAGIC)] >= 2
    layers = _read_weights(sections[Section.WEIGHTS], graph, where, trellis=trellis)
    activations = None
    if Section.ACTIVATIONS in sections:
        reader = ByteReader(sections[Section.ACTIVATIONS], f"{where}: ACTIVATIONS")
        activations = read_activations(reader, graph)
    try:
        return CompressedModel(record=record, layers=layers, activations=activations)
    except WeightsError as error:
        raise MalformedError(f"{where}: {error}") from None


def decode_record(data: bytes, where: str = "file") -> ModelRecord:
    """Read all but the weights and activations of a file; errors as ``decode``'s."""
    return _decode_record(data, where)[0]


def _decode_record(data: bytes, where: str) -> tuple[ModelRecord, Graph, dict[Section, bytes]]:
    needs, sections = _open(data, where)
    require_counts(sections[Section.GRAPH], where)
    readers = {kind: ByteReader(body, f"{where}: {kind.name}") for kind, body in sections.items()}
    labels = readers[Section.LABELS]
    (kind,) = labels.unpack("<B")
    names, ids = split_labels(kind, decode_text(labels), labels.where)
    try:
        record = ModelRecord.from_json(decode_text(readers[Section.RECORD]), (names, ids))
        graph = build_graph(record.spec)
        derived = {
            Section.GRAPH: graph_bytes(graph),
            Section.INPUT: input_bytes(record.preprocessing),
        }
    except TooLargeError as error:
        raise LimitError(f"{where}: {error}") from None
    except SpecError as error:
        raise MalformedError(f"{where}: {error}") from None
    for kind, expected in derived.items():
        if sections[kind] != expected:
            raise MalformedError(f"{where}: {kind.name} is not what the record says")
    if needs != Needs.of(graph):
        raise MalformedError(f"{where}: the header's needs are not those of the network")
    return record, graph, sections


def read_sqz(path: Path) -> CompressedModel:
    """Read a ``.sqz`` file; errors as ``decode``'s."""
    return decode(read_file(path), str(path))


def section_sizes(data: bytes, where: str = "file") -> dict[str, int]:
    """Return the bytes of each section of a file, and under "HEADER" what stands around them."""
    sizes = {kind.name: len(body) for kind, body in _open(data, where)[1].items()}
    return {"HEADER": len(data) - sum(sizes.values()), **sizes}


def _open(data: bytes, where: str) -> tuple[Needs, dict[Section, bytes]]:
    """Check all around the content, and cut it into the sections that we know."""
    if not data.startswith(MAGIC):
        if data and MAGIC.startswith(data[: len(MAGIC)]):
            raise TruncatedError(f"{where}: ends inside its first {len(MAGIC)} bytes")
        raise UnknownFormatError(f"{where}: does not begin like a .sqz file")
    if len(data) < _HEADER.size:
        raise TruncatedError(f"{where}: {len(data)} bytes, too short for a .sqz file")
    _, version, num_sections, reserved, num_bytes, *needs = _HEADER.unpack_from(data)
    if not 1 <= version <= VERSION:
        # Nothing is known of another version's header, not even where its checksum is.
        raise UnsupportedVersionError(
            f"{where}: .sqz version {version}, expected 1 to {VERSION}; "
            + (
                "use a newer squeezenet, or the file is damaged"
                if version > VERSION
                else "that was a draft: make the file anew from its weights"
            )
        )
    start = _HEADER.size + num_sections * _SECTION.size
    if len(data) < start + 2 * _CRC.size:
        raise TruncatedError(f"{where}: {len(data)} bytes, too short for its header")
    if _CRC.unpack_from(data, start)[0] != zlib.crc32(data[:start]):
        raise ChecksumError(f"{where}: the checksum of its header is wrong; copy it again")
    if not 1 <= num_sections <= _MAX_SECTIONS or reserved:
        raise MalformedError(f"{where}: a header with {num_sections} sections")
    if num_bytes > MAX_FILE_BYTES:
        raise LimitError(f"{where}: claims {num_bytes} bytes, expected at most {MAX_FILE_BYTES}")
    if len(data) < num_bytes:
        raise TruncatedError(f"{where}: {len(data)} bytes, expected {num_bytes}; copy it again")
    if len(data) > num_bytes:
        raise MalformedError(f"{where}: {len(data)} bytes, expected {num_bytes}")
    if _CRC.unpack_from(data, num_bytes - _CRC.size)[0] != zlib.crc32(data[: -_CRC.size]):
        raise ChecksumError(f"{where}: the checksum of the file is wrong; copy it again")
    table = [
        _SECTION.unpack_from(data, _HEADER.size + i * _SECTION.size) for i in range(num_sections)
    ]
    reader = ByteReader(data[start + _CRC.size : -_CRC.size], where)
    sections: dict[Section, bytes] = {}
    for number, flags, reserved, size, crc in table:
        body = reader.take(size)
        if zlib.crc32(body) != crc:
            raise ChecksumError(f"{where}: the checksum of section {number} is wrong")
        if reserved or flags > _MANDATORY:
            raise MalformedError(f"{where}: section {number} has flags {flags}")
        if number not in list(Section):
            if flags:
                raise UnsupportedVersionError(
                    f"{where}: section {number} is needed and unknown; use a newer squeezenet"
                )
            continue
        kind = Section(number)
        if kind in sections or bool(flags) != (kind in _NEEDED_BY_CLIENTS):
            raise MalformedError(f"{where}: section {kind.name} stands twice or has wrong flags")
        sections[kind] = body
    reader.finish()
    missing = [kind.name for kind in Section if kind not in sections and kind not in _OPTIONAL]
    if missing:
        raise MalformedError(f"{where}: no section {missing[0]}")
    claimed = Needs(num_weights=needs[0], largest_channel=needs[1], peak_activations=needs[2])
    most = min(MAX_WEIGHTS, MAX_WEIGHTS_PER_BYTE * len(sections[Section.WEIGHTS]))
    if claimed.num_weights > most:
        raise LimitError(
            f"{where}: {claimed.num_weights} weights, expected at most {most} in a file of its size"
        )
    return claimed, sections


def _read_weights(
    data: bytes, graph: Graph, where: str, *, trellis: bool
) -> tuple[CompressedLayer, ...]:
    coder = data[0] if data else None
    if coder is None or coder >= len(_CODERS):
        raise UnsupportedVersionError(f"{where}: entropy coder {coder}, expected 0 or 1")
    if _CODERS[coder] == "range":
        return decode_weights(data[1:], graph.convs, where, trellis=trellis)
    from squeezenet.codec import huffman_weights

    return huffman_weights.decode_weights(data[1:], graph.convs, where)
