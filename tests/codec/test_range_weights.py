"""The stream of weights: round trips of any layer, malformed streams, a bound on the length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import squeezenet.codec.range_coder as oracle
from squeezenet import _native
from squeezenet.arch.graph import Conv
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.range_weights import (
    decode_weights,
    encode_weights,
    has_trellis,
    layer_bytes,
)
from squeezenet.codec.trellis import to_codes, to_levels
from squeezenet.codec.types import CodebookWeights, CompressedLayer, LevelWeights
from squeezenet.errors import MalformedError


def conv_of(shape: tuple[int, ...]) -> Conv:
    return Conv(
        name="layer", source="a", target="b", target_start=0, in_channels=shape[1],
        out_channels=shape[0], kernel=(shape[2], shape[3]), stride=1, padding=0, groups=1,
        relu=True, key="k", norm_key=None,
    )  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> CompressedLayer:
    """A layer of any shape, sparsity and range, in either representation."""
    shape = tuple(draw(st.integers(1, maximum)) for maximum in (9, 20, 5, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    density = draw(st.sampled_from([0.0, 0.03, 0.3, 1.0]))
    kept = rng.random(shape) < density
    bias_O = rng.normal(0, draw(st.sampled_from([0.0, 1e-3, 1.0, 100.0])), shape[0])
    if draw(st.booleans()):
        largest = draw(st.sampled_from([1, 7, 127]))
        levels = (rng.integers(-largest, largest + 1, shape) * kept).astype(np.int8)
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


def test_both_coders_use_the_same_trellis() -> None:
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


def test_random_levels_take_hardly_more_than_their_bits() -> None:
    """Levels without any pattern have 8 bits of entropy."""
    rng = np.random.default_rng(0)
    levels = rng.integers(-127, 128, (64, 64, 3, 3)).astype(np.int8)
    weights = LevelWeights(levels_OIHW=levels, scales_O=np.ones(64, np.float32))
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(64, np.float32))
    assert len(encode_weights([layer])) < 1.02 * levels.size


def is_raw(data: bytes) -> bool:
    decoder = _native.Decoder(data)
    decoder.plain(2)
    return bool(decoder.plain(1))


@pytest.mark.parametrize("trellis", [False, True])
def test_levels_that_the_model_makes_longer_are_coded_raw(trellis: bool) -> None:
    """A few large, unlike levels: the model has learned nothing when they end."""
    row = [127, -93, 85, -127, 111, -101, 64, -77]
    if trellis:
        row = [63, -46]
        to_levels(row)
    levels_OIHW = np.array(row, np.int8).reshape(1, -1, 1, 1)
    weights = LevelWeights(
        levels_OIHW=levels_OIHW, scales_O=np.ones(1, np.float32), trellis=trellis
    )
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(1, np.float32))
    data = encode_weights([layer])
    assert is_raw(data) and len(data) < layer_bytes([layer])[0]
    again = decoded(data, inputs=len(row))
    assert not has_trellis([again])
    np.testing.assert_array_equal(again.weights.dequantize(), levels_OIHW)


def test_codes_that_the_model_makes_longer_are_coded_raw() -> None:
    """All ranks once, in random order."""
    codebook = np.arange(-127, 129, dtype=np.float32)
    codebook[[0, 127]] = codebook[[127, 0]]
    codes = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(1, 256, 1, 1)
    weights = CodebookWeights(codes_OIHW=codes, codebook=codebook)
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(1, np.float32))
    data = encode_weights([layer])
    assert is_raw(data) and len(data) < layer_bytes([layer])[0]
    again = decoded(data, inputs=256)
    np.testing.assert_array_equal(again.weights.dequantize(), weights.dequantize())


def test_small_levels_are_not_coded_raw() -> None:
    levels = np.tile(np.array([1, 0, 0, -1], np.int8), 20).reshape(1, 80, 1, 1)
    weights = LevelWeights(levels_OIHW=levels, scales_O=np.ones(1, np.float32))
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(1, np.float32))
    data = encode_weights([layer])
    assert not is_raw(data) and layer_bytes([layer]) == [len(data)]


@given(st.binary(min_size=1, max_size=400), st.integers(1, 6), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_refused_or_weights(data: bytes, channels: int, side: int) -> None:
    convs = [conv_of((channels, channels, side, side))] * 3
    try:
        layers = decode_weights(data, convs, "test")
    except MalformedError:
        return
    assert decode_weights(encode_weights(layers), convs, "test")


CODEBOOK, LEVELS, TRELLIS = 0, 1, 2
FIRST_VALUE, NEXT_VALUE, EXPONENT, SCALE, SHIFT, BIAS = (oracle.NUMBERS + 34 * i for i in range(6))
ONE = 127 << 5  # the code of the scale 1.0


def level_stream(
    *, kind: int = LEVELS, raw: int = 0, shift: int = 0, scale: int = ONE, bias: int = 0,
    levels: tuple[int, ...] = (1,),
) -> bytes:  # fmt: skip
    """A layer of one output channel, written symbol by symbol as spec/FORMAT.md says."""
    encoder = _native.Encoder()
    encoder.plain(2, kind)
    encoder.plain(1, raw)
    encoder.begin(len(levels), 1, 1, False)
    encoder.number(SHIFT, shift)
    encoder.number(SCALE, scale)
    encoder.number(BIAS, bias)
    write_row(encoder, raw, levels)
    return encoder.finish()


def codebook_stream(
    *, bits: int = 23, counts: tuple[int, int] = (1, 2), bias_bits: int = 0, exponent: int = 0,
    raw: int = 0, codes: tuple[int, ...] = (1,), **values: tuple[int, ...],
) -> bytes:  # fmt: skip
    """As ``level_stream``; ``negative`` and ``positive``: the first magnitude, then differences."""
    encoder = _native.Encoder()
    encoder.plain(2, CODEBOOK)
    encoder.plain(1, raw)
    encoder.begin(len(codes), 1, 1, False)
    encoder.plain(5, bits)
    for count in counts:
        encoder.plain(8, count)
    for name in ("negative", "positive"):
        defaults = {"negative": (1 << 23,), "positive": (1, 1)}
        for i, value in enumerate(values.get(name, defaults[name])):
            encoder.number(NEXT_VALUE if i else FIRST_VALUE, value)
    encoder.plain(5, bias_bits)
    encoder.number(EXPONENT, exponent)
    encoder.plain(1, 0)
    encoder.plain(bias_bits, 0)
    write_row(encoder, raw, codes)
    return encoder.finish()


def write_row(encoder: _native.Encoder, raw: int, row: tuple[int, ...]) -> None:
    if not raw:
        encoder.channel(np.array(row, np.int16))
        return
    for value in row:
        encoder.plain(9, value + 256)


def decoded(data: bytes, *, inputs: int = 1, trellis: bool = True) -> CompressedLayer:
    [layer] = decode_weights(data, [conv_of((1, inputs, 1, 1))], "x", trellis=trellis)
    return layer


def test_levels_symbol_by_symbol() -> None:
    layer = decoded(level_stream(shift=2, bias=-3, levels=(5, 0, -127)), inputs=3)
    assert layer.weights.dequantize().ravel().tolist() == [5.0, 0.0, -127.0]
    assert layer.bias_O.tolist() == [-0.75]
    assert decoded(level_stream(scale=ONE + 8)).weights.side_values.tolist() == [1.25]
    raw = decoded(level_stream(raw=1, levels=(127, -127)), inputs=2)
    assert raw.weights.dequantize().ravel().tolist() == [127.0, -127.0]


def test_levels_at_their_limits() -> None:
    largest, smallest = np.array([8159 << 18, 1 << 18], np.uint32).view(np.float32)
    assert decoded(level_stream(scale=8159)).weights.side_values == [largest]
    assert decoded(level_stream(scale=1)).weights.side_values == [smallest]
    for bias in (1 << 24, -(1 << 24)):
        assert decoded(level_stream(shift=30, bias=bias)).bias_O.tolist() == [bias * 2**-30]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"shift": 31}, "bias shift 31, expected 0 to 30"),
        ({"shift": -1}, "bias shift -1"),
        ({"scale": 0}, "scale code 0, expected 1 to 8159"),
        ({"scale": 8160}, "scale code 8160"),
        ({"bias": (1 << 24) + 1}, "bias of magnitude 16777217, expected at most 16777216"),
        ({"bias": -(1 << 24) - 1}, "bias of magnitude 16777217"),
        ({"levels": (128,)}, "level of magnitude 128, expected at most 127"),
        ({"levels": (-128,)}, "level of magnitude 128"),
        ({"levels": (-128,), "raw": 1}, "level of magnitude 128"),
        ({"levels": (-256,), "raw": 1}, "raw level -256, expected at least -255"),
        ({"kind": 3}, "representation 3, expected 0 or 1, or 2"),
        ({"kind": TRELLIS, "raw": 1}, "representation 2 raw, expected 0 or 1, or 2 not raw"),
    ],
)
def test_malformed_levels(stream: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=f"x: layer: {message}"):
        decoded(level_stream(**stream))


def test_the_trellis_needs_version_2() -> None:
    data = level_stream(kind=TRELLIS, levels=(0,))
    weights = decoded(data).weights
    assert isinstance(weights, LevelWeights) and weights.trellis
    with pytest.raises(MalformedError, match="representation 2"):
        decoded(data, trellis=False)
    layer = decoded(level_stream())
    assert has_trellis([layer, decoded(data)]) and not has_trellis([layer, layer])


def words(*values: int) -> list[float]:
    return np.array(values, np.uint32).view(np.float32).tolist()


def test_codebooks_symbol_by_symbol() -> None:
    data = codebook_stream(exponent=128, codes=(2, -1, 0, 1))
    layer = decoded(data, inputs=4)
    values = words(2, 0x80000000 | 1 << 23, 0, 1)
    assert layer.weights.dequantize().ravel().tolist() == values
    assert layer.bias_O.tolist() == [2.0]
    # With one mantissa bit, magnitudes are in units of 2^22.
    layer = decoded(codebook_stream(bits=1, negative=(0,), positive=(1, 0x1FD - 1)), inputs=1)
    assert layer.weights.side_values.tolist() == [0.0, 0.0, *words(1 << 22, 0x7F400000)]
    assert np.signbit(layer.weights.side_values).tolist() == [False, True, False, False]


def test_full_codebook() -> None:
    stream = codebook_stream(counts=(0, 255), negative=(), positive=(1,) * 255, codes=(255,))
    assert decoded(stream).weights.dequantize().ravel().tolist() == words(255)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"bits": 24}, "codebook with 24 mantissa bits, expected at most 23"),
        ({"counts": (1, 255)}, "codebook of 257 entries, expected at most 256"),
        ({"negative": (-1,)}, "codebook magnitude -1, expected 0 or more"),
        ({"negative": (0x7F800000,)}, "codebook magnitude 2139095040, expected 0 or more, below"),
        ({"positive": (0, 1)}, "codebook magnitude 0, expected 1 or more"),
        ({"positive": (5, 0)}, "codebook magnitude 5 after 5, expected a larger"),
        ({"positive": (5, -1)}, "codebook magnitude 4 after 5, expected a larger"),
        ({"positive": (1, 0x7F7FFFFF)}, "codebook magnitude 2139095040 after 1"),
        ({"bias_bits": 24}, "bias with 24 mantissa bits, expected at most 23"),
        ({"exponent": 255}, "bias exponent 255, expected 0 to 254"),
        ({"exponent": -1}, "bias exponent -1"),
        ({"codes": (3,)}, "codes 0 to 3, expected -1 to 2 as in the codebook"),
        ({"codes": (-2,)}, "codes -2 to 0, expected -1 to 2"),
        ({"codes": (-2,), "raw": 1}, "codes -2 to 0, expected -1 to 2"),
    ],
)
def test_malformed_codebooks(stream: dict[str, Any], message: str) -> None:
    decoded(codebook_stream(exponent=254, positive=(1, 0x7F7FFFFE)))
    with pytest.raises(MalformedError, match=f"x: layer: {message}"):
        decoded(codebook_stream(**stream))


def test_a_stream_ends_with_its_last_symbol() -> None:
    data = level_stream()
    decoded(data)
    with pytest.raises(MalformedError, match="x: the weights do not end where their section"):
        decoded(data + bytes(8))


def test_raw_weights_must_fit_the_stream() -> None:
    # 9 bits each, of the stream's bytes and the 4 zero bytes that it may omit.
    data = level_stream(raw=1, levels=(77,) * 71)
    max_weights = 8 * (len(data) + 4) // 9
    assert decoded(data, inputs=71).weights.symbols_OIHW.size == 71
    with pytest.raises(MalformedError, match=f"{max_weights + 1} raw weights, expected at most"):
        decoded(data, inputs=max_weights + 1)
    with pytest.raises(MalformedError, match="raw level -256"):
        decoded(data, inputs=max_weights)


def test_differences_go_on_from_layer_to_layer() -> None:
    """Equal scales, shifts and exponents of later layers cost next to nothing."""

    def levels_layer() -> CompressedLayer:
        weights = LevelWeights(
            levels_OIHW=np.ones((1, 1, 1, 1), np.int8),
            scales_O=np.array([0.40625], np.float32),
        )
        return CompressedLayer(name="x", weights=weights, bias_O=np.array([2**-30], np.float32))

    one, two = (len(encode_weights([levels_layer()] * n)) for n in (1, 2))
    assert two - one <= 4 < one
    sizes = layer_bytes([levels_layer()] * 2)
    assert sizes[0] > sizes[1] and sum(sizes) == two


def test_unused_and_equal_values_of_a_codebook_are_left_out() -> None:
    codebook = np.array([0.0, 7.0, -2.0, 7.0, 3.0, -5.0], np.float32)
    codes_OIHW = np.array([5, 3, 2, 1, 0, 3], np.uint8).reshape(1, 6, 1, 1)
    weights = CodebookWeights(codes_OIHW=codes_OIHW, codebook=codebook)
    layer = CompressedLayer(name="x", weights=weights, bias_O=np.zeros(1, np.float32))
    again = decoded(encode_weights([layer]), inputs=6)
    assert again.weights.side_values.tolist() == [0.0, -2.0, -5.0, 7.0]
    expected = weights.dequantize()
    np.testing.assert_array_equal(again.weights.dequantize(), expected)
