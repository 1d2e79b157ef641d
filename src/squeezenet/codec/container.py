"""The ``.sqz`` container, version 0: the first layout, to be replaced by spec/FORMAT.md's.

Little-endian.

    0   8  magic 89 53 51 5A 0D 0A 1A 0A (as PNG's, it shows damage by text-mode copying)
    8   2  version, 0
    10  2  number of layers
    12  4  bytes of the whole file
    16  4  bytes of the record
    20  4  CRC-32 of the record
    24  4  CRC-32 of bytes 0..23
    28     the record: canonical JSON (``arch.record``), zlib-compressed
    then per convolution, in graph order: u32 bytes, u32 CRC-32, then the layer:
           u8 representation (0 codebook, 1 levels),
           codebook: u16 entries, float32 each; levels: float32 scale an output channel;
           float32 bias an output channel; then the symbols (``codec.entropy``)
    last 32  SHA-256 of all bytes before

Decoding checks everything before it believes it: a file that is damaged or hostile ends in one
``FormatError``, and what is allocated is bounded by ``arch``'s limits.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np

from squeezenet.arch.graph import Conv, build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.entropy import StreamSizes, decode_symbols, encode_symbols
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import (
    MAX_CODEBOOK,
    CodebookWeights,
    CompressedLayer,
    CompressedModel,
    Float32Array,
    LevelWeights,
)
from squeezenet.errors import (
    ChecksumError,
    LimitError,
    MalformedError,
    SpecError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    WeightsError,
)

MAGIC = b"\x89SQZ\r\n\x1a\n"
VERSION = 0
MAX_RECORD_BYTES = 1 << 22
"""Most bytes of the record's JSON: 4 MiB, a hundred times what 1,000 classes take."""
_PREAMBLE = struct.Struct("<8sHHIII")
_CRC = struct.Struct("<I")
_SECTION = struct.Struct("<II")
_DIGEST_BYTES = 32
_CODEBOOK, _LEVELS = 0, 1


def encode(model: CompressedModel) -> bytes:
    """Return the file's bytes; equal models give equal bytes."""
    record = zlib.compress(model.record.to_json().encode(), 9)
    body = record
    for layer in model.layers:
        payload, _ = encode_layer(layer)
        body += _SECTION.pack(len(payload), zlib.crc32(payload)) + payload
    num_bytes = _PREAMBLE.size + _CRC.size + len(body) + _DIGEST_BYTES
    preamble = _PREAMBLE.pack(
        MAGIC, VERSION, len(model.layers), num_bytes, len(record), zlib.crc32(record)
    )
    data = preamble + _CRC.pack(zlib.crc32(preamble)) + body
    return data + hashlib.sha256(data).digest()


def decode(data: bytes, where: str = "file") -> CompressedModel:
    """Read ``encode``'s bytes; ``where`` names them in errors.

    Raises:
        UnknownFormatError, TruncatedError, ChecksumError, UnsupportedVersionError,
        MalformedError, LimitError: each as its name says.
    """
    num_layers, record_bytes, body = _open_envelope(data, where)
    record, convs = _read_record(record_bytes, where)
    if num_layers != len(convs):
        raise MalformedError(f"{where}: {num_layers} layers, expected the network's {len(convs)}")
    reader = ByteReader(body, where)
    layers = []
    for conv in convs:
        num_bytes, crc = reader.unpack(_SECTION.format)
        payload = reader.take(num_bytes)
        if zlib.crc32(payload) != crc:
            raise ChecksumError(f"{where}: {conv.name}: the checksum is wrong")
        layers.append(_decode_layer(ByteReader(payload, f"{where}: {conv.name}"), conv))
    reader.finish()
    try:
        return CompressedModel(record=record, layers=tuple(layers))
    except WeightsError as error:
        raise MalformedError(f"{where}: {error}") from None


def read_sqz(path: Path) -> CompressedModel:
    """Read a ``.sqz`` file; errors as ``decode``'s."""
    return decode(path.read_bytes(), str(path))


def encode_layer(layer: CompressedLayer) -> tuple[bytes, StreamSizes]:
    """Return one layer's bytes, and how many bits of them are codes and gaps."""
    weights = layer.weights
    if isinstance(weights, CodebookWeights):
        side = struct.pack("<BH", _CODEBOOK, weights.codebook.size) + _floats(weights.codebook)
    else:
        side = struct.pack("<B", _LEVELS) + _floats(weights.scales_O)
    symbols, sizes = encode_symbols(weights.symbols_OIHW)
    return side + _floats(layer.bias_O) + symbols, sizes


def _open_envelope(data: bytes, where: str) -> tuple[int, bytes, bytes]:
    """Check all around the content: return the number of layers, the record and the layers."""
    if not data.startswith(MAGIC):
        if data and MAGIC.startswith(data[: len(MAGIC)]):
            raise TruncatedError(f"{where}: ends inside its first {len(MAGIC)} bytes")
        raise UnknownFormatError(f"{where}: does not begin like a .sqz file")
    start = _PREAMBLE.size + _CRC.size
    if len(data) < start + _DIGEST_BYTES:
        raise TruncatedError(
            f"{where}: {len(data)} bytes, too short for a .sqz file; copy it again"
        )
    _, version, num_layers, num_bytes, record_size, record_crc = _PREAMBLE.unpack_from(data)
    if _CRC.unpack_from(data, _PREAMBLE.size)[0] != zlib.crc32(data[: _PREAMBLE.size]):
        raise ChecksumError(f"{where}: the checksum of its first bytes is wrong; copy it again")
    if version != VERSION:
        raise UnsupportedVersionError(
            f"{where}: .sqz version {version}, expected {VERSION}; use a newer squeezenet"
        )
    if len(data) < num_bytes:
        raise TruncatedError(f"{where}: {len(data)} bytes, expected {num_bytes}; copy it again")
    if len(data) > num_bytes:
        raise MalformedError(f"{where}: {len(data)} bytes, expected {num_bytes}")
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise ChecksumError(f"{where}: the checksum of the file is wrong; copy it again")
    if start + record_size > num_bytes - _DIGEST_BYTES:
        raise MalformedError(f"{where}: a record of {record_size} bytes does not fit the file")
    record = data[start : start + record_size]
    if zlib.crc32(record) != record_crc:
        raise ChecksumError(f"{where}: the checksum of the record is wrong; copy it again")
    return num_layers, record, data[start + record_size : -_DIGEST_BYTES]


def _read_record(data: bytes, where: str) -> tuple[ModelRecord, tuple[Conv, ...]]:
    """Return the record and the layers that its network must have."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, MAX_RECORD_BYTES)
    except zlib.error as error:
        raise MalformedError(f"{where}: the record does not decompress ({error})") from None
    if inflate.unconsumed_tail:
        raise LimitError(f"{where}: the record is over {MAX_RECORD_BYTES} bytes")
    if not inflate.eof or inflate.unused_data:
        raise MalformedError(f"{where}: the record does not end where it should")
    try:
        record = ModelRecord.from_json(text.decode())
        return record, build_graph(record.spec).convs
    except (SpecError, UnicodeDecodeError) as error:
        raise MalformedError(f"{where}: {error}") from None


def _decode_layer(reader: ByteReader, conv: Conv) -> CompressedLayer:
    (representation,) = reader.unpack("<B")
    if representation not in (_CODEBOOK, _LEVELS):
        raise UnsupportedVersionError(
            f"{reader.where}: representation {representation}, expected 0 or 1; "
            "use a newer squeezenet"
        )
    if representation == _CODEBOOK:
        (entries,) = reader.unpack("<H")
        if not 1 <= entries <= MAX_CODEBOOK:
            raise MalformedError(f"{reader.where}: a codebook of {entries} entries")
        side = _read_floats(reader, entries)
    else:
        side = _read_floats(reader, conv.out_channels)
    bias_O = _read_floats(reader, conv.out_channels)
    symbols_OIHW = decode_symbols(reader, conv.num_weights).reshape(conv.weight_shape)
    reader.finish()
    weights: CodebookWeights | LevelWeights
    if representation == _CODEBOOK:
        if side[0] != 0.0 or symbols_OIHW.max(initial=0) >= side.size:
            raise MalformedError(f"{reader.where}: codes and codebook do not fit")
        weights = CodebookWeights(codes_OIHW=symbols_OIHW, codebook=side)
    else:
        if not (side > 0).all():
            raise MalformedError(f"{reader.where}: a scale is not above 0")
        weights = LevelWeights(levels_OIHW=symbols_OIHW.view(np.int8), scales_O=side)
    return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)


def _floats(values: Float32Array) -> bytes:
    return values.astype("<f4").tobytes()


def _read_floats(reader: ByteReader, count: int) -> Float32Array:
    return np.frombuffer(reader.take(4 * count), "<f4").astype(np.float32)
