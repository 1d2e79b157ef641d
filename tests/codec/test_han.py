"""The authors' published file: read whole, kept exactly, refused when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.codec import container, han
from squeezenet.errors import MalformedError, TruncatedError


def small_net(seed: int = 0) -> bytes:
    """A file of the same layout with random content, a twentieth of the weights stored."""
    rng = np.random.default_rng(seed)
    counts, body = [], b""
    for conv in han._CONVS:
        n = max(1, conv.num_weights // 20)
        counts.append(n)
        codebook = rng.normal(size=256).astype("<f4")
        codebook[0] = 0
        body += codebook.tobytes() + rng.normal(size=conv.out_channels).astype("<f4").tobytes()
        body += rng.integers(0, 256, n, dtype=np.uint8).tobytes()
        body += rng.integers(0, 256, (n + 1) // 2, dtype=np.uint8).tobytes()
    return np.array(counts, "<u4").tobytes() + body


def slow_weights(data: bytes) -> list[np.ndarray]:
    """The layout's description, word by word, entry after entry."""
    place = 4 * len(han._CONVS)
    weights = []
    for i, conv in enumerate(han._CONVS):
        n = int.from_bytes(data[4 * i : 4 * i + 4], "little")
        codebook = np.frombuffer(data, "<f4", 256, place)
        place += 1024 + 4 * conv.out_channels
        codes = data[place : place + n]
        nibbles = data[place + n : place + n + (n + 1) // 2]
        place += n + (n + 1) // 2
        flat = np.zeros(conv.num_weights, np.float32)
        position = -1
        for k in range(n):
            position += ((nibbles[k // 2] >> (4 * (k % 2))) & 15) + 1
            flat[position] = codebook[codes[k]]
        weights.append(flat.reshape(conv.weight_shape))
    assert place == len(data)
    return weights


def test_layout_against_a_slow_reading() -> None:
    data = small_net()
    model = han.decode_net(data)
    for layer, expected in zip(model.layers, slow_weights(data), strict=True):
        np.testing.assert_array_equal(layer.weights.dequantize(), expected)
    again = container.decode(container.encode(model))
    for a, b in zip(model.layers, again.layers, strict=True):
        np.testing.assert_array_equal(a.weights.dequantize(), b.weights.dequantize())


@pytest.mark.parametrize("length", [0, 50, 104, 5000, -1])
def test_truncated(length: int) -> None:
    data = small_net()
    with pytest.raises((TruncatedError, MalformedError)):
        han.decode_net(data[:length])


def test_rubbish() -> None:
    with pytest.raises(MalformedError, match="does not begin with 26 numbers"):
        han.decode_net(b"\xff" * 200_000)
    data = small_net()
    with pytest.raises(MalformedError, match="bytes too many"):
        han.decode_net(data + b"x")
    first = 104
    broken = data[:first] + b"\x00\x00\x80\x7f" + data[first + 4 :]  # infinity as entry 0
    with pytest.raises(MalformedError, match="conv1: codebook or biases are damaged"):
        han.decode_net(broken)


def test_the_published_file(shared: Path) -> None:
    path = shared / "compressed_SqueezeNet.net"
    data = path.read_bytes()
    assert han.expected_bytes(data) == len(data) == 675_763
    model = han.read_net(path)
    assert sum(layer.num_nonzero for layer in model.layers) == 415_921
    for layer, expected in zip(model.layers, slow_weights(data), strict=True):
        np.testing.assert_array_equal(layer.weights.dequantize(), expected)
    sqz = container.encode(model)
    assert len(sqz) <= 530_000
    assert len(container.encode(model, "huffman")) <= 555_000
    again = container.decode(sqz)
    assert container.encode(again) == sqz
    for a, b in zip(model.layers, again.layers, strict=True):
        for x, y in ((a.weights.dequantize(), b.weights.dequantize()), (a.bias_O, b.bias_O)):
            np.testing.assert_array_equal(x.view(np.uint32), y.view(np.uint32))
    assert build_graph(model.record.spec).convs == han._CONVS
