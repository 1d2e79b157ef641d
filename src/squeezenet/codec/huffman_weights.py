"""The weights of all layers <-> bytes by Huffman codes, as in the paper: spec/FORMAT.md, "Huffman".

The second entropy coder: a baseline for the range coder. Side information is stored as float32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from squeezenet.arch.graph import Conv
from squeezenet.codec.huffman_streams import StreamSizes, decode_symbols, encode_symbols
from squeezenet.codec.numerics import SCALE_MANTISSA_BITS, Float32Array, mantissa_bits
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import (
    MAX_CODEBOOK,
    MAX_LEVEL,
    CodebookWeights,
    CompressedLayer,
    LevelWeights,
)
from squeezenet.errors import MalformedError

_CODEBOOK, _LEVELS = 0, 1


def encode_weights(layers: Sequence[CompressedLayer]) -> bytes:
    """Return the bytes of all layers, each after its length (u32)."""
    payloads = [encode_layer(layer)[0] for layer in layers]
    return b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)


def decode_weights(data: bytes, convs: Sequence[Conv], where: str) -> tuple[CompressedLayer, ...]:
    """Read ``encode_weights``' bytes for the convolutions of a graph; ``where`` names the bytes.

    Raises:
        MalformedError: a layer is invalid, or has more or fewer bytes than its length says.
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
    """Return one layer's bytes, and the number of bits of its codes and gaps."""
    symbols, sizes = encode_symbols(layer.weights.symbols_OIHW)
    return side_bytes(layer) + symbols, sizes


def side_bytes(layer: CompressedLayer) -> bytes:
    """Return what comes before a layer's symbols: codebook or scales, and the bias."""
    weights = layer.weights
    if isinstance(weights, CodebookWeights):
        side = struct.pack("<BH", _CODEBOOK, weights.codebook.size) + _floats(weights.codebook)
    else:
        side = struct.pack("<B", _LEVELS) + _floats(weights.scales_O)
    return side + _floats(layer.bias_O)


def _decode_layer(reader: ByteReader, conv: Conv) -> CompressedLayer:
    (representation,) = reader.unpack("<B")
    if representation not in (_CODEBOOK, _LEVELS):
        raise MalformedError(f"{reader.where}: representation {representation}, expected 0 or 1")
    if representation == _CODEBOOK:
        (entries,) = reader.unpack("<H")
        if not 1 <= entries <= MAX_CODEBOOK:
            raise MalformedError(
                f"{reader.where}: codebook of {entries} entries, expected 1 to {MAX_CODEBOOK}"
            )
        side = _read_floats(reader, entries)
    else:
        side = _read_floats(reader, conv.out_channels)
    bias_O = _read_floats(reader, conv.out_channels)
    symbols_OIHW = decode_symbols(reader, conv.num_weights).reshape(conv.weight_shape)
    reader.finish()
    weights: CodebookWeights | LevelWeights
    if representation == _CODEBOOK:
        largest = int(symbols_OIHW.max(initial=0))
        if side[0] != 0.0 or largest >= side.size:
            raise MalformedError(
                f"{reader.where}: codebook of {side.size} entries with {side[0]} as entry 0, "
                f"expected 0 and an entry for code {largest}"
            )
        weights = CodebookWeights(codes_OIHW=symbols_OIHW, codebook=side)
    else:
        if not (side > 0).all() or mantissa_bits(side) > SCALE_MANTISSA_BITS:
            raise MalformedError(
                f"{reader.where}: invalid scale, expected positive float32 with "
                f"{SCALE_MANTISSA_BITS} mantissa bits"
            )
        levels_OIHW = symbols_OIHW.view(np.int8)
        if levels_OIHW.min(initial=0) < -MAX_LEVEL:
            raise MalformedError(f"{reader.where}: level -128, expected at least {-MAX_LEVEL}")
        weights = LevelWeights(levels_OIHW=levels_OIHW, scales_O=side)
    return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)


def _floats(values: Float32Array) -> bytes:
    return values.astype("<f4").tobytes()


def _read_floats(reader: ByteReader, count: int) -> Float32Array:
    return np.frombuffer(reader.take(4 * count), "<f4").astype(np.float32)
