"""The stream of weights: both representations, any layer, a bound on its length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import squeezenet.codec.range_coder as oracle
from squeezenet import _native
from squeezenet.arch.graph import Conv
from squeezenet.codec.numerics import (
    bias_shift,
    mantissa_bits,
    round_biases,
    round_scales,
    scales_around,
)
from squeezenet.codec.range_weights import decode_weights, encode_weights, layer_bytes
from squeezenet.codec.trellis import to_codes, to_levels
from squeezenet.codec.types import CodebookWeights, CompressedLayer, LevelWeights
from squeezenet.errors import MalformedError, WeightsError


def conv_of(shape: tuple[int, ...]) -> Conv:
    return Conv(
        name="layer", source="a", target="b", target_start=0, in_channels=shape[1],
        out_channels=shape[0], kernel=(shape[2], shape[3]), stride=1, padding=0, groups=1,
        relu=True, key="k", norm_key=None,
    )  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> CompressedLayer:
    """A layer of any shape, sparsity and range, in either representation."""
    shape = tuple(draw(st.integers(1, most)) for most in (9, 20, 5, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    density = draw(st.sampled_from([0.0, 0.03, 0.3, 1.0]))
    kept = rng.random(shape) < density
    bias_O = rng.normal(0, draw(st.sampled_from([0.0, 1e-3, 1.0, 100.0])), shape[0])
    if draw(st.booleans()):
        most = draw(st.sampled_from([1, 7, 127]))
        levels = (rng.integers(-most, most + 1, shape) * kept).astype(np.int8)
        scales_O = round_scales(np.exp(rng.normal(-4, 3, shape[0])))
        trellis = draw(st.booleans())
        if trellis:
            rows = (levels / 2).astype(np.int64).reshape(shape[0], -1).tolist()
            for row in rows:
                to_levels(row)
            levels = np.array(rows, np.int8).reshape(shape)
        weights: Any = LevelWeights(levels_OIHW=levels, scales_O=scales_O, trellis=trellis)
        bias_O = round_biases(bias_O, draw(st.sampled_from([1.0, 2**-10, 3e-5])))
    else:
        size = draw(st.sampled_from([1, 2, 16, 256]))
        codebook = np.concatenate([[0.0], rng.normal(size=size - 1)]).astype(np.float32)
        if draw(st.booleans()):
            codebook = codebook.astype(np.float16).astype(np.float32)
        codes = rng.integers(0, size, shape) * kept
        weights = CodebookWeights(codes_OIHW=codes.astype(np.uint8), codebook=codebook)
    return CompressedLayer(name="layer", weights=weights, bias_O=bias_O.astype(np.float32))


@given(st.lists(layers(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=80)
def test_round_trip(layers: list[CompressedLayer]) -> None:
    data = encode_weights(layers)
    convs = [conv_of(layer.weights.symbols_OIHW.shape) for layer in layers]
    again = decode_weights(data, convs, "test")
    for a, b in zip(layers, again, strict=True):
        assert type(a.weights) is type(b.weights)
        for x, y in ((a.weights.dequantize(), b.weights.dequantize()), (a.bias_O, b.bias_O)):
            np.testing.assert_array_equal(x.view(np.uint32), y.view(np.uint32))
    assert encode_weights(again) == data == encode_weights(layers)
    sizes = layer_bytes(layers)
    assert len(sizes) == len(layers) and min(sizes) >= 0
    side = sum(8 * len(x.bias_O) + 5 * x.weights.side_values.size + 32 for x in layers)
    assert len(data) <= sum(x.num_weights for x in layers) * 9 / 8 + side


def test_both_coders_walk_the_same_trellis() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-63, 64, (7, 90))
    levels = codes.tolist()
    for row in levels:
        to_levels(row)
    assert np.abs(levels).max() <= 126
    streams = []
    for make in (oracle.Encoder, _native.Encoder):
        encoder = make()
        encoder.begin(10, 3, 3, True)
        for row in levels:
            values = np.array(row, np.int16)
            encoder.channel(values)
            assert values.tolist() == row
        streams.append(encoder.finish())
    assert streams[0] == streams[1]
    for make in (oracle.Decoder, _native.Decoder):
        decoder = make(streams[0])
        decoder.begin(10, 3, 3, True)
        for row in levels:
            values = np.zeros(90, np.int16)
            decoder.channel(values)
            assert values.tolist() == row
        assert decoder.at_end
    for row in levels:
        to_codes(row)
    np.testing.assert_array_equal(levels, codes)
    for make in (oracle.Encoder, _native.Encoder):
        encoder = make()
        encoder.begin(2, 1, 1, True)
        with pytest.raises(ValueError, match="not on the trellis"):
            encoder.channel(np.array([2, 1], np.int16))  # from state 2 on, levels are even
    layer = CompressedLayer(
        name="x",
        weights=LevelWeights(
            levels_OIHW=np.array([1, 0], np.int8).reshape(1, 2, 1, 1),
            scales_O=np.ones(1, np.float32),
            trellis=True,
        ),
        bias_O=np.zeros(1, np.float32),
    )
    with pytest.raises(ValueError, match="not on the trellis"):
        encode_weights([layer])


def test_rubbish_is_bounded() -> None:
    """Levels without any pattern take hardly more than their 8 bits, and never over 9."""
    rng = np.random.default_rng(0)
    levels = rng.integers(-127, 128, (64, 64, 3, 3)).astype(np.int8)
    weights = LevelWeights(levels_OIHW=levels, scales_O=np.ones(64, np.float32))
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(64, np.float32))
    assert len(encode_weights([layer])) < 1.02 * levels.size


def test_an_adversary_gains_nothing() -> None:
    """Levels that the model foretells wrongly are coded without it."""
    levels = np.zeros((40, 512, 1, 1), np.int8)
    levels[1:, ::2] = np.where(np.arange(39) % 2, 127, -127)[:, None, None, None]
    levels[20:] = np.roll(levels[20:], 1, axis=1)
    weights = LevelWeights(levels_OIHW=levels, scales_O=np.ones(40, np.float32))
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(40, np.float32))
    assert len(encode_weights([layer])) <= levels.size * 9 / 8 + 32


def test_rounding() -> None:
    scales_O = round_scales(np.geomspace(1e-6, 1e3, 200))
    assert mantissa_bits(scales_O) <= 5
    assert np.abs(scales_O / np.geomspace(1e-6, 1e3, 200) - 1).max() < 1 / 60
    around = scales_around(0.99, 5)
    np.testing.assert_array_equal(around, np.array([61, 62, 63, 64, 66], np.float32) / 64)
    assert (scales_around(0.0, 3) > 0).all()
    assert np.isfinite(scales_around(3e38, 17)).all()
    bias_O = np.array([0.3, -7.77, 0.0])
    rounded = round_biases(bias_O, 0.01)
    assert bias_shift(rounded) <= 7
    assert np.abs(rounded - bias_O).max() <= 2**-8
    with pytest.raises(WeightsError, match="round_biases"):
        bias_shift(np.array([0.1, 1e6], np.float32))


@given(st.binary(min_size=1, max_size=400), st.integers(1, 6), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_refused_or_weights(data: bytes, channels: int, side: int) -> None:
    convs = [conv_of((channels, channels, side, side))] * 3
    try:
        layers = decode_weights(data, convs, "test")
    except MalformedError:
        return
    assert decode_weights(encode_weights(layers), convs, "test")
