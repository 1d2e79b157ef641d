"""The range coder: C and Python give the same bytes, and decode what was encoded."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet import _native
from squeezenet.codec import range_coder as oracle
from squeezenet.codec.range_text import encode_text

SLOT = oracle.NUMBERS
numbers = st.integers(-oracle.MAX_NUMBER, oracle.MAX_NUMBER)
steps = st.one_of(
    st.tuples(st.just("bit"), st.integers(0, 4095), st.booleans()),
    st.tuples(st.just("plain"), st.just(32), st.integers(0, (1 << 32) - 1)),
    st.tuples(st.just("plain"), st.just(3), st.integers(0, 7)),
    st.tuples(st.just("number"), st.sampled_from([SLOT, SLOT + 34]), numbers),
    st.tuples(st.just("number"), st.just(SLOT), st.integers(-3, 3)),
    st.tuples(st.just("byte"), st.integers(0, 255), st.integers(0, 255)),
)


@st.composite
def layers(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Levels OIHW of any shape, sparsity and range."""
    shape = tuple(draw(st.integers(1, maximum)) for maximum in (6, 40, 4, 4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    spread = draw(st.sampled_from([0.0, 0.1, 0.4, 1.0, 5.0, 50.0, 1000.0]))
    return np.rint(rng.laplace(0, spread, shape)).clip(-255, 255).astype(np.int16)


def encoded(encoder: Any, steps: Sequence[tuple[str, int, int]], levels: Any) -> bytes:
    for name, *arguments in steps:
        getattr(encoder, name)(*arguments)
    encoder.begin(*levels.shape[1:])
    for row in levels:
        encoder.channel(_buffer(encoder, row))
    size = encoder.size
    result = encoder.finish()
    assert isinstance(result, bytes) and size - 4 <= len(result) <= size + 4
    return result


def _buffer(coder: Any, row: Any) -> Any:
    return row.reshape(-1).tolist() if isinstance(coder, oracle.Coder) else row.copy()


@given(st.lists(steps, max_size=60), layers())
@settings(deadline=None, max_examples=60)
def test_c_and_python_agree(steps: list[tuple[str, int, int]], levels: Any) -> None:
    data = encoded(_native.Encoder(), steps, levels)
    assert encoded(oracle.Encoder(), steps, levels) == data
    for decoder in (_native.Decoder(data), oracle.Decoder(data)):
        for name, first, value in steps:
            assert getattr(decoder, name)(first) == value
        decoder.begin(*levels.shape[1:])
        for row in levels:
            found = _buffer(decoder, np.zeros_like(row))
            decoder.channel(found)
            np.testing.assert_array_equal(np.asarray(found).reshape(-1), row.reshape(-1))
        assert decoder.at_end


class Counting(oracle.Encoder):
    """An encoder that sums the entropy of its bits under its own model."""

    bits = 0.0

    def bit(self, context: int, bit: bool = False) -> bool:
        probability = self._probability[context] / 65536
        self.bits -= math.log2(probability if bit else 1 - probability)
        return super().bit(context, bit)

    def cost_of(self, previous: int, byte: int) -> float:
        """Return the bits that the byte would take now."""
        trial = Counting()
        trial._probability, trial._seen = list(self._probability), list(self._seen)
        trial.byte(previous, byte)
        return trial.bits


def test_bytes_are_within_a_percent_of_the_models_entropy() -> None:
    rng = np.random.default_rng(0)
    levels = np.rint(rng.laplace(0, 0.7, (48, 16, 3, 3))).clip(-127, 127).astype(np.int16)
    counting = Counting()
    data = encoded(counting, [], levels)
    assert data == encoded(_native.Encoder(), [], levels)
    assert counting.bits / 8 - 1 < len(data) < 1.01 * counting.bits / 8 + 4


def test_text_of_the_least_expected_bytes_is_bounded() -> None:
    """Each byte is the printable one that the coder expects least."""
    adversary, text = Counting(), bytearray(b" ")
    for _ in range(400):
        previous = text[-1]
        text.append(max(range(32, 127), key=lambda byte: adversary.cost_of(previous, byte)))
        adversary.byte(previous, text[-1])
    pairs = "".join(chr(a) + chr(b) for a in range(32, 127) for b in range(32, 127))
    for worst in (text.decode(), pairs):
        assert len(encode_text(worst)) < 4 / 3 * len(worst) + 8


def test_the_bytes_of_the_coder_are_fixed() -> None:
    """Any change of a context or constant changes the format."""
    flat = [(i * i * 7 + i // 5) % 23 - 11 if i % 3 else 0 for i in range(5 * 7 * 9)]
    levels = np.array(flat, np.int16).reshape(5, 7, 3, 3)
    data = encoded(_native.Encoder(), [("number", SLOT, -1234), ("byte", 65, 66)], levels)
    assert (len(data), zlib.crc32(data)) == (151, 3798654861)


def test_a_decoder_may_read_four_bytes_after_the_end() -> None:
    for make in (_native.Decoder, oracle.Decoder):
        decoder = make(b"")
        assert decoder.at_end  # four bytes are read at the start
        decoder.plain(9)
        assert not decoder.at_end
        decoder = make(bytes(5))
        assert not decoder.at_end
        decoder.plain(8)
        assert decoder.at_end


class Recording(oracle.Encoder):
    """An encoder that records the contexts of its bits."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[int] = []

    def bit(self, context: int, bit: bool = False) -> bool:
        self.contexts.append(context)
        return super().bit(context, bit)


def test_contexts_are_those_of_the_specification() -> None:
    """Other places of contexts may give the same bytes, but the specification names these."""
    recording = Recording()
    recording.number(1952 + 34, -5)
    assert recording.contexts == [1986, 1987, 1988, 1989, 1990]
    recording.contexts.clear()
    recording.begin(1, 1, 1)
    recording.channel([-5])
    # 1x1, class 0: zero flag, sign (t 0, s 8, n 0), 2 bits and their end, then the rest.
    rest = [1680 + 256 + (1 << 2) - 2 + 1, 1680 + 256 + (1 << 2) - 2 + 2]
    assert recording.contexts == [0, 1168 + 8 * 9, 1456, 1456 + 16, 1456 + 32, *rest]
    recording.contexts.clear()
    recording.begin(1, 1, 2)
    recording.channel([1, -1])
    # The second level: w 1, q 4; sign with t 1, s 8 + (2047 >> 4 >> 8), n 3 * 2.
    first = [16, 1168 + (16 + 8) * 9, 1456 + 7 * 16]
    second = [16 + (1 * 9 + 4) * 8, 1168 + (16 + 8) * 9 + 6, 1456 + 7 * 16]
    assert recording.contexts[:3] == first and recording.contexts[3] == second[0]
    assert recording.contexts[4] == second[1]


def test_size_counts_the_bytes_so_far() -> None:
    for make in (_native.Encoder, oracle.Encoder):
        encoder = make()
        assert encoder.size == 0
        encoder.plain(32, 0x12345678)
        encoder.plain(32, 0x9ABCDEF0)
        assert encoder.size in (6, 7, 8)


def test_trailing_zero_bytes_are_omitted() -> None:
    for make in (_native.Encoder, oracle.Encoder):
        assert make().finish() == b""
        encoder = make()
        encoder.plain(8, 0x80)
        assert len(encoder.finish()) == 1


def test_numbers_at_their_limits() -> None:
    values = (0, 1, -1, 2, 3, -4, oracle.MAX_NUMBER, -oracle.MAX_NUMBER, 1 << 30, (1 << 30) - 1)
    for make, read in ((oracle.Encoder, _native.Decoder), (_native.Encoder, oracle.Decoder)):
        encoder = make()
        for value in values:
            encoder.number(SLOT, value)
        decoder = read(encoder.finish())
        assert [decoder.number(SLOT) for _ in values] == list(values)


def test_wrong_use_is_refused() -> None:
    for make in (_native.Encoder, lambda: _native.Decoder(b"")):
        coder = make()
        for call, arguments in (
            (coder.bit, (4096,)),
            (coder.plain, (33,)),
            (coder.number, (4096 - 33,)),
            (coder.begin, (0, 1, 1)),
            (coder.begin, (1, 1 << 20, 1)),
        ):
            with pytest.raises(ValueError, match="no such|at most"):
                call(*arguments)
        with pytest.raises(ValueError, match="number of"):
            coder.channel(np.zeros(3, np.int16))
        coder.begin(2, 1, 1)
        for wrong in (np.zeros(3, np.int16), np.zeros(2, np.int32), np.zeros(2, np.int8)):
            with pytest.raises(ValueError, match="number of"):
                coder.channel(wrong)
        frozen = np.zeros(2, np.int16)
        frozen.flags.writeable = False
        with pytest.raises((ValueError, BufferError)):
            coder.channel(frozen)
    encoder = _native.Encoder()
    encoder.begin(2, 1, 1)
    with pytest.raises(ValueError, match="out of range"):
        encoder.channel(np.array([0, 256], np.int16))
    with pytest.raises(TypeError):
        _native.Decoder("text")  # type: ignore[arg-type]


@given(st.binary(max_size=200), st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_any_bytes_decode_to_the_same(data: bytes, inputs: int, side: int) -> None:
    native, plain = _native.Decoder(data), oracle.Decoder(data)
    for decoder in (native, plain):
        decoder.begin(inputs, side, side)
    for _ in range(10):
        row = np.zeros(inputs * side * side, np.int16)
        native.channel(row)
        slow = [0] * row.size
        plain.channel(slow)
        assert row.tolist() == slow
        assert native.number(SLOT) == plain.number(SLOT)
        assert native.plain(7) == plain.plain(7)
    assert native.at_end == plain.at_end
