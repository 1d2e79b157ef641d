"""Layers by Huffman codes: the bytes by hand, and malformed layers."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from squeezenet.codec.huffman_streams import encode_symbols
from squeezenet.codec.huffman_weights import decode_weights, encode_layer, encode_weights
from squeezenet.codec.types import CodebookWeights, CompressedLayer, LevelWeights
from squeezenet.errors import MalformedError
from tests.codec.test_range_weights import conv_of

LEVELS = CompressedLayer(
    name="layer",
    weights=LevelWeights(
        levels_OIHW=np.array([[3, 0], [-3, 1]], np.int8).reshape(2, 2, 1, 1),
        scales_O=np.array([0.5, 2.0], np.float32),
    ),
    bias_O=np.array([1.0, -1.0], np.float32),
)
CODES = CompressedLayer(
    name="layer",
    weights=CodebookWeights(
        codes_OIHW=np.array([[2, 0], [1, 1]], np.uint8).reshape(2, 2, 1, 1),
        codebook=np.array([0.0, -1.5, 7.0], np.float32),
    ),
    bias_O=np.array([1.0, -1.0], np.float32),
)
CONV = conv_of((2, 2, 1, 1))


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def layer_of(*parts: bytes, symbols: tuple[int, ...] = (1, 0, 1, 1)) -> bytes:
    """A layer after its length: parts, biases of 0, then symbols."""
    coded, _ = encode_symbols(np.array(symbols, np.uint8))
    body = b"".join(parts) + floats(0.0, 0.0) + coded
    return struct.pack("<I", len(body)) + body


def decoded(data: bytes) -> CompressedLayer:
    [layer] = decode_weights(data, [CONV], "x")
    return layer


@pytest.mark.parametrize("layer", [LEVELS, CODES])
def test_bytes(layer: CompressedLayer) -> None:
    symbols, sizes = encode_symbols(layer.weights.symbols_OIHW)
    if layer is LEVELS:
        side = b"\x01" + floats(0.5, 2.0)
    else:
        side = b"\x00" + struct.pack("<H", 3) + floats(0.0, -1.5, 7.0)
    payload, found = encode_layer(layer)
    assert payload == side + floats(1.0, -1.0) + symbols and found == sizes
    data = encode_weights([layer, layer])
    assert data == (struct.pack("<I", len(payload)) + payload) * 2
    for again in decode_weights(data, [CONV, CONV], "x"):
        assert again.weights.dequantize().tolist() == layer.weights.dequantize().tolist()
        assert again.bias_O.tolist() == layer.bias_O.tolist() and again.name == "layer"


def test_codebooks_and_scales_at_their_limits() -> None:
    data = layer_of(b"\x00", struct.pack("<H", 256), floats(*range(256)), symbols=(255, 0, 1, 1))
    assert decoded(data).weights.side_values.size == 256
    data = layer_of(b"\x00", struct.pack("<H", 1), floats(0.0), symbols=(0, 0, 0, 0))
    assert not decoded(data).weights.dequantize().any()
    data = layer_of(b"\x01", floats(1.0, 1 + 1 / 32), symbols=(129, 0, 127, 1))
    assert decoded(data).weights.dequantize()[0, 0, 0, 0] == -127.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (layer_of(b"\x02"), "representation 2, expected 0 or 1"),
        (layer_of(b"\x00", struct.pack("<H", 0)), "codebook of 0 entries, expected 1 to 256"),
        (
            layer_of(b"\x00", struct.pack("<H", 257), floats(*range(257))),
            "codebook of 257 entries",
        ),
        (
            layer_of(b"\x00", struct.pack("<H", 1), floats(0.0)),
            "codebook of 1 entries with 0.0 as entry 0, expected 0 and an entry for code 1",
        ),
        (
            layer_of(b"\x00", struct.pack("<H", 2), floats(1.0, 2.0)),
            "codebook of 2 entries with 1.0 as entry 0",
        ),
        (layer_of(b"\x01", floats(1.0, 0.0)), "invalid scale, expected positive float32"),
        (layer_of(b"\x01", floats(1.0, -1.0)), "invalid scale"),
        (layer_of(b"\x01", floats(1.0, 1 + 1 / 64)), "invalid scale"),
        (layer_of(b"\x01", floats(1.0, 1.0), symbols=(128, 0, 1, 1)), "level -128"),
    ],
)
def test_malformed_layers(data: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=f"x: layer: {message}"):
        decoded(data)


def test_lengths_must_fit() -> None:
    data = layer_of(b"\x01", floats(1.0, 1.0))
    decoded(data)
    with pytest.raises(MalformedError, match="x: 1 bytes too many"):
        decoded(data + b"x")
    longer = struct.pack("<I", len(data) - 3) + data[4:] + b"x"
    with pytest.raises(MalformedError, match="x: layer: 1 bytes too many"):
        decoded(longer)
    with pytest.raises(MalformedError, match="bytes are left"):
        decoded(data[:-1])
