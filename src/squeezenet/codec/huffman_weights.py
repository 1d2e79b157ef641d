"""The weights of all layers <-> bytes by Huffman codes, as the paper has it: spec/FORMAT.md.

The second entropy coder, kept so that what the range coder gains can be seen. Side information
is stored raw.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from squeezenet.arch.graph import Conv
from squeezenet.codec.huffman_streams import StreamSizes, decode_symbols, encode_symbols
from squeezenet.codec.numerics import SCALE_MANTISSA_BITS, Float32Array, mantissa_bits
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import MAX_CODEBOOK, CodebookWeights, CompressedLayer, LevelWeights
from squeezenet.errors import MalformedError

_CODEBOOK, _LEVELS = 0, 1


def encode_weights(layers: Sequence[CompressedLayer]) -> bytes:
    """Return the bytes of all layers, each behind its length (u32)."""
    payloads = [encode_layer(layer)[0] for layer in layers]
    return b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)


def decode_weights(data: bytes, convs: Sequence[Conv], where: str) -> tuple[CompressedLayer, ...]:
    """Read ``encode_weights``' bytes.

    Raises:
        MalformedError: they are not such bytes.
    """
    reader = ByteReader(data, where)
    layers = []
    for conv in convs:
        (num_bytes,) = reader.unpack("<I")
        layer = ByteReader(reader.take(num_bytes), f"{where}: {conv.name}")
        layers.append(_decode_layer(layer, conv))
    reader.finish()
    return tuple(layers)


def encode_layer(layer: CompressedLayer) -> tuple[bytes, StreamSizes]:
    """Return one layer's bytes, and how many bits of them are codes and gaps."""
    weights = layer.weights
    if isinstance(weights, CodebookWeights):
        side = struct.pack("<BH", _CODEBOOK, weights.codebook.size) + _floats(weights.codebook)
    else:
        side = struct.pack("<B", _LEVELS) + _floats(weights.scales_O)
    symbols, sizes = encode_symbols(weights.symbols_OIHW)
    return side + _floats(layer.bias_O) + symbols, sizes


def _decode_layer(reader: ByteReader, conv: Conv) -> CompressedLayer:
    (representation,) = reader.unpack("<B")
    if representation not in (_CODEBOOK, _LEVELS):
        raise MalformedError(f"{reader.where}: representation {representation}, expected 0 or 1")
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
        if not (side > 0).all() or mantissa_bits(side) > SCALE_MANTISSA_BITS:
            raise MalformedError(f"{reader.where}: a scale that cannot be")
        levels_OIHW = symbols_OIHW.view(np.int8)
        if levels_OIHW.min(initial=0) == -128:
            raise MalformedError(f"{reader.where}: a level is beyond 127")
        weights = LevelWeights(levels_OIHW=levels_OIHW, scales_O=side)
    return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)


def _floats(values: Float32Array) -> bytes:
    return values.astype("<f4").tobytes()


def _read_floats(reader: ByteReader, count: int) -> Float32Array:
    return np.frombuffer(reader.take(4 * count), "<f4").astype(np.float32)
