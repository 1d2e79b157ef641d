"""The authors' published file: read exactly, and refused when damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.codec import container, han
from squeezenet.errors import MalformedError, TruncatedError


def small_net(seed: int = 0) -> bytes:
    """A file of the same layout with random content; it has entries for 1/20 of the weights."""
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
    """The layout as ``codec.han`` describes it, read entry by entry."""
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


def test_layout_beside_a_slow_reader() -> None:
    data = small_net()
    model = han.decode_net(data)
    assert len(model.record.class_names) == 1000 and model.record.class_ids[0] == "n01440764"
    assert model.record.provenance["source_sha256"] == hashlib.sha256(data).hexdigest()
    assert model.record.preprocessing.channels == "BGR" and not model.is_integer
    for layer, expected in zip(model.layers, slow_weights(data), strict=True):
        np.testing.assert_array_equal(layer.weights.dequantize(), expected)
    again = container.decode(container.encode(model))
    for a, b in zip(model.layers, again.layers, strict=True):
        np.testing.assert_array_equal(a.weights.dequantize(), b.weights.dequantize())


@pytest.mark.parametrize("length", [0, 50, 104, 5000, -1])
def test_truncated(length: int) -> None:
    data = small_net()
    with pytest.raises(MalformedError if 0 <= length < 104 else TruncatedError):
        han.decode_net(data[:length])


def test_the_first_numbers_tell_the_length() -> None:
    data = small_net()
    assert han.expected_bytes(data) == han.expected_bytes(data[:104]) == len(data)
    assert han.expected_bytes(data[:103]) is None
    most = np.array([conv.num_weights for conv in han._CONVS], "<u4")
    assert han.expected_bytes(most.tobytes()) is not None
    for place, value in ((0, 0), (25, 0), (0, most[0] + 1), (25, most[25] + 1)):
        wrong = most.copy()
        wrong[place] = value
        assert han.expected_bytes(wrong.tobytes()) is None


def test_entries_up_to_the_last_weight() -> None:
    """Gaps of 0 fill a layer exactly; one larger gap passes its end."""
    counts = np.ones(len(han._CONVS), np.int64)
    counts[0] = han._CONVS[0].num_weights
    data = bytearray(counts.astype("<u4").tobytes())
    for conv, n in zip(han._CONVS, counts.tolist(), strict=True):
        data += bytes(1024 + 4 * conv.out_channels) + bytes([7]) * n + bytes((n + 1) // 2)
    model = han.decode_net(bytes(data))
    assert (model.layers[0].weights.symbols_OIHW == 7).all()
    assert model.layers[1].num_nonzero == 1
    first_gaps = 104 + 1024 + 4 * 96 + int(counts[0])
    data[first_gaps] = 1
    n = int(counts[0])
    with pytest.raises(MalformedError, match=f"an entry after the last weight, at {n} of {n}"):
        han.decode_net(bytes(data))


def test_damaged_files() -> None:
    with pytest.raises(MalformedError, match="does not begin with 26 numbers"):
        han.decode_net(b"\xff" * 200_000)
    data = small_net()
    with pytest.raises(MalformedError, match="bytes too many"):
        han.decode_net(data + b"x")
    first = 104

    infinity = b"\x00\x00\x80\x7f"
    for place, value in (
        (first, b"\x00\x00\x80\x3f"),  # entry 0 is 1.0
        (first, infinity),
        (first + 4, infinity),  # entry 1
        (first + 1024, infinity),  # a bias
    ):
        broken = data[:place] + value + data[place + 4 :]
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
