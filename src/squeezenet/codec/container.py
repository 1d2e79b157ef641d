"""A ``CompressedModel`` <-> the bytes of a ``.sqz`` file. spec/FORMAT.md has every byte.

Decoding trusts nothing before it is checked. A damaged or hostile file ends in one ``FormatError``;
the limits of ``arch`` and the file's length bound all allocations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.client_sections import (
    activation_bytes,
    graph_bytes,
    input_bytes,
    read_activations,
    require_counts,
)
from squeezenet.codec.labels import label_bytes, split_labels
from squeezenet.codec.magic import MAGIC, read_file
from squeezenet.codec.range_text import decode_text, encode_text
from squeezenet.codec.range_weights import decode_weights, encode_weights, has_trellis
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.sections import ClientRequirements, Section, pack_sections, read_sections
from squeezenet.codec.types import CompressedLayer, CompressedModel
from squeezenet.errors import (
    LimitError,
    MalformedError,
    SpecError,
    TooLargeError,
    UnsupportedVersionError,
    WeightsError,
)

__all__ = [
    "ClientRequirements",
    "EntropyCoder",
    "Section",
    "decode",
    "decode_record",
    "encode",
    "read_sqz",
    "section_sizes",
]

EntropyCoder = Literal["range", "huffman"]

_CODERS: tuple[EntropyCoder, ...] = ("huffman", "range")
"""By the first byte of the section WEIGHTS."""


def encode(model: CompressedModel, coder: EntropyCoder = "range") -> bytes:
    """Return the file's bytes; equal models give equal bytes.

    Raises:
        SpecError: the file format cannot hold the preprocessing or the graph.
        WeightsError: the biases of a layer with levels are not exact multiples of a power of two.
    """
    graph = build_graph(model.record.spec)
    encode_layers = encode_weights
    if coder == "huffman":
        from squeezenet.codec import huffman_weights

        encode_layers = huffman_weights.encode_weights
    sections = {
        Section.GRAPH: graph_bytes(graph),
        Section.INPUT: input_bytes(model.record.preprocessing),
        Section.WEIGHTS: bytes([_CODERS.index(coder)]) + encode_layers(model.layers),
        Section.LABELS: label_bytes(model.record.class_names, model.record.class_ids),
        Section.RECORD: encode_text(model.record.to_json(labels=False)),
    }
    if model.activations is not None:
        sections[Section.ACTIVATIONS] = activation_bytes(model.activations)
    # The oldest version that can hold the file.
    version = 2 if coder == "range" and has_trellis(model.layers) else 1
    return pack_sections(version, ClientRequirements.of(graph), sections)


def decode(data: bytes, where: str = "file") -> CompressedModel:
    """Read ``encode``'s bytes; ``where`` names them in errors.

    Raises:
        UnknownFormatError, TruncatedError, ChecksumError, UnsupportedVersionError,
        MalformedError, LimitError: see ``errors``, and spec/FORMAT.md, "Errors".
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
    """Read everything except the weights and activation scales; errors as ``decode``'s."""
    return _decode_record(data, where)[0]


def _decode_record(data: bytes, where: str) -> tuple[ModelRecord, Graph, dict[Section, bytes]]:
    claimed, sections = read_sections(data, where)
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
            raise MalformedError(f"{where}: section {kind.name} does not match the record's")
    expected_sizes = ClientRequirements.of(graph)
    if claimed != expected_sizes:
        raise MalformedError(
            f"{where}: the header has {claimed.num_weights} weights, {claimed.largest_channel} in "
            f"the largest channel, {claimed.peak_activations} activations; expected "
            f"{expected_sizes.num_weights}, {expected_sizes.largest_channel}, "
            f"{expected_sizes.peak_activations}"
        )
    return record, graph, sections


def read_sqz(path: Path) -> CompressedModel:
    """Read a ``.sqz`` file.

    Raises:
        UsageError: there is no such file.
        FormatError: see ``decode``.
    """
    return decode(read_file(path), str(path))


def section_sizes(data: bytes, where: str = "file") -> dict[str, int]:
    """Return the bytes of each section by name; "HEADER" is everything outside of sections."""
    sizes = {kind.name: len(body) for kind, body in read_sections(data, where)[1].items()}
    return {"HEADER": len(data) - sum(sizes.values()), **sizes}


def _read_weights(
    data: bytes, graph: Graph, where: str, *, trellis: bool
) -> tuple[CompressedLayer, ...]:
    coder = data[0] if data else None
    if coder is None or coder >= len(_CODERS):
        raise UnsupportedVersionError(
            f"{where}: entropy coder {coder}, expected 0 or 1; use a newer squeezenet"
        )
    if _CODERS[coder] == "range":
        return decode_weights(data[1:], graph.convs, where, trellis=trellis)
    from squeezenet.codec import huffman_weights

    return huffman_weights.decode_weights(data[1:], graph.convs, where)
