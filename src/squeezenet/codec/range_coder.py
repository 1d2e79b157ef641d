"""The adaptive binary range coder and the context model of weights: spec/FORMAT.md, "The coder".

This is the oracle, written to be read beside the specification: plain Python, slow, no NumPy.
``squeezenet._native`` is the same coder in C, a thousand times faster; both must give the same
bytes. Encoder and decoder share one code path: each function takes the symbol to encode, which a
decoder ignores, and returns the coded symbol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import MutableSequence
from typing import Final

from squeezenet.codec.trellis import to_codes, to_levels

# All constants are those of spec/FORMAT.md: any change of them changes the format.
NUM_CONTEXTS: Final = 4096
MAX_SEEN: Final = 160
"""Bits of a context after which its adaptation rate stays constant."""
TRACKED: Final = 512
"""Input channels with statistics of their own; channel i shares those of i mod 512."""
MAX_MAGNITUDE: Final = 255
MAX_NUMBER: Final = (1 << 31) - 1

# The first context of each kind of bit ("Levels"), and of the slots of numbers.
ZERO_1X1: Final = 0
ZERO_SPATIAL: Final = ZERO_1X1 + 16
SIGN: Final = ZERO_SPATIAL + 16 * 9 * 8
BITS: Final = SIGN + 2 * 16 * 9
TREE: Final = BITS + 2 * 7 * 16
NUMBERS: Final = TREE + 256 + 16
SLOT_CONTEXTS: Final = 34

_MIN_RANGE: Final = 1 << 24
_MASK_32: Final = 0xFFFFFFFF
_RATES: Final = tuple(655360 // (10 * i + 16) for i in range(MAX_SEEN + 1))
MAX_OVERRUN: Final = 4
"""Bytes after the end of a stream that a decoder may read: ``finish`` omits up to as many."""


class Coder(ABC):
    """The part that encoder and decoder share: contexts, and all symbols made of bits."""

    encodes: bool

    def __init__(self) -> None:
        self._probability = [1 << 15] * NUM_CONTEXTS  # of a 1, in units of 2^-16
        self._seen = [0] * NUM_CONTEXTS
        self._range = _MASK_32

    def bit(self, context: int, bit: bool = False) -> bool:
        """Code one bit with the adaptive probability of ``context``."""
        probability, seen = self._probability[context], self._seen[context]
        rate = _RATES[seen]
        bit = self._narrow((self._range >> 12) * (probability >> 4), bit)
        if bit:
            self._probability[context] = probability + ((65535 - probability) * rate >> 16)
        else:
            self._probability[context] = probability - (probability * rate >> 16)
        self._seen[context] = min(seen + 1, MAX_SEEN)
        self._renormalise()
        return bit

    def plain(self, count: int, value: int = 0) -> int:
        """Code ``count`` bits of probability 1/2, the highest first."""
        result = 0
        for i in range(count - 1, -1, -1):
            half = self._range >> 1
            self._range -= self._range & 1
            # The lower half is the 0 here, while ``_narrow`` takes a 1 for the lower part.
            bit = not self._narrow(half, not value >> i & 1)
            self._renormalise()
            result = result << 1 | bit
        return result

    def number(self, slot: int, value: int = 0) -> int:
        """Code an integer within +-``MAX_NUMBER`` by the 34 contexts from ``slot`` on."""
        if not self.bit(slot, value != 0):
            return 0
        negative = self.bit(slot + 1, value < 0)
        magnitude = abs(value)
        bits = 0
        while bits < 30 and self.bit(slot + 2 + bits, magnitude >> bits > 1):
            bits += 1
        magnitude = 1 << bits | self.plain(bits, magnitude & ((1 << bits) - 1))
        return -magnitude if negative else magnitude

    def byte(self, previous: int, byte: int = 0) -> int:
        """Code a byte of text in the context of the ``previous`` one."""
        node = 1
        for i in range(7, -1, -1):
            # 40503 is 2^16 over the golden ratio: a multiplicative hash (Knuth) to 12 bits.
            context = ((previous << 8 | node) * 40503 & 0xFFFF) >> 4
            node = node << 1 | self.bit(context, bool(byte >> i & 1))
        return node & 0xFF

    def begin(self, inputs: int, height: int, width: int, trellis: bool = False) -> None:
        """Begin a layer with output channels of ``inputs * height * width`` levels.

        ``trellis``: its levels are on the trellis (``codec.trellis``).
        """
        self._model = LevelModel(self, inputs, height, width)
        self._trellis = trellis

    def channel(self, levels: MutableSequence[int]) -> None:
        """Code one output channel's levels, in place.

        Raises:
            ValueError: the levels to encode are not on the trellis.
        """
        if not self._trellis:
            self._model.channel(levels)
            return
        if self.encodes:
            to_codes(levels)
        self._model.channel(levels)
        to_levels(levels)

    @abstractmethod
    def _narrow(self, bound: int, bit: bool) -> bool:
        """Narrow the interval to its lower part, of size ``bound`` (a 1), or to the rest (a 0)."""

    @abstractmethod
    def _renormalise(self) -> None:
        """Widen an interval below ``_MIN_RANGE`` by whole bytes."""


class Encoder(Coder):
    """Encodes symbols to bytes."""

    encodes = True

    def __init__(self) -> None:
        super().__init__()
        self._low = 0
        self._bytes = bytearray()

    def _narrow(self, bound: int, bit: bool) -> bool:
        if bit:
            self._range = bound
        else:
            self._low += bound
            self._range -= bound
        return bit

    def _renormalise(self) -> None:
        while self._range < _MIN_RANGE:
            self._range <<= 8
            self._shift_byte()

    def _shift_byte(self) -> None:
        """Append the top byte of ``low``, and carry into the bytes before it."""
        if self._low > _MASK_32:
            i = len(self._bytes) - 1
            while self._bytes[i] == 0xFF:
                self._bytes[i] = 0
                i -= 1
            self._bytes[i] += 1
            self._low &= _MASK_32
        self._bytes.append(self._low >> 24)
        self._low = (self._low << 8) & _MASK_32

    @property
    def size(self) -> int:
        """Number of bytes so far, without those that ``finish`` adds."""
        return len(self._bytes)

    def finish(self) -> bytes:
        """End the stream and return all its bytes.

        Of the numbers in the interval it takes the one with the most trailing zero bytes, and
        omits these: a decoder reads zeros after the end.
        """
        for zeros in (32, 24, 16, 8, 0):
            value = (self._low + self._range - 1) >> zeros << zeros
            if value >= self._low:
                break
        self._low = value
        length = len(self._bytes) + (32 - zeros) // 8
        for _ in range(4):
            self._shift_byte()
        return bytes(self._bytes[:length])


class Decoder(Coder):
    """Decodes symbols from bytes; any bytes decode to something."""

    encodes = False

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data
        self._position = 0
        self._code = 0
        for _ in range(4):
            self._code = self._code << 8 | self._next()

    @property
    def at_end(self) -> bool:
        """Whether all bytes were read, and at most ``MAX_OVERRUN`` after the end."""
        return len(self._data) <= self._position <= len(self._data) + MAX_OVERRUN

    def _next(self) -> int:
        position = self._position
        self._position += 1
        return self._data[position] if position < len(self._data) else 0

    def _narrow(self, bound: int, bit: bool) -> bool:
        bit = self._code < bound
        if bit:
            self._range = bound
        else:
            self._code -= bound
            self._range -= bound
        return bit

    def _renormalise(self) -> None:
        while self._range < _MIN_RANGE:
            self._range = self._range << 8 & _MASK_32
            self._code = (self._code << 8 | self._next()) & _MASK_32


class LevelModel:
    """The contexts of a layer's levels: spec/FORMAT.md, "Levels". One object per layer."""

    def __init__(self, coder: Coder, inputs: int, height: int, width: int) -> None:
        self._coder = coder
        self._inputs, self._height, self._width = inputs, height, width
        self._activity = [0] * TRACKED
        self._balance = [0] * TRACKED

    def channel(self, levels: MutableSequence[int]) -> None:
        """Code one output channel's ``inputs * height * width`` levels, in place."""
        size = self._height * self._width
        for i in range(self._inputs):
            kernel_sum = 0
            for k in range(size):
                at = i * size + k
                if size == 1:
                    level = self._level_1x1(i % TRACKED, levels[at])
                else:
                    level = self._level_spatial(i % TRACKED, k, kernel_sum, levels, at)
                    kernel_sum = min(15, kernel_sum + min(2, abs(level)))
                levels[at] = level

    def _level_1x1(self, tracked: int, level: int) -> int:
        activity = activity_class(self._activity[tracked])
        if self._coder.bit(ZERO_1X1 + activity, level != 0):
            level = self._nonzero(tracked, level, spatial=0, activity=activity, around=0)
        else:
            level = 0
        self._activity[tracked] += (activity_of(abs(level)) - self._activity[tracked]) >> 4
        return level

    def _level_spatial(
        self, tracked: int, k: int, kernel_sum: int, levels: MutableSequence[int], at: int
    ) -> int:
        activity = activity_class(self._activity[tracked])
        place = 9 * k // (self._height * self._width)
        context = (kernel_sum * 9 + place) * 8 + activity // 2
        if self._coder.bit(ZERO_SPATIAL + context, levels[at] != 0):
            left = levels[at - 1] if k % self._width else 0
            up = levels[at - self._width] if k >= self._width else 0
            around = _sign_class(left) * 3 + _sign_class(up)
            level = self._nonzero(tracked, levels[at], spatial=1, activity=activity, around=around)
        else:
            level = 0
        self._activity[tracked] += (activity_of(abs(level)) - self._activity[tracked]) >> 5
        return level

    def _nonzero(
        self, tracked: int, level: int, *, spatial: int, activity: int, around: int
    ) -> int:
        coder = self._coder
        balance = self._balance[tracked]
        side = (balance + 2048) >> 8
        negative = coder.bit(SIGN + (spatial * 16 + side) * 9 + around, level < 0)
        self._balance[tracked] = balance + (((-2047 if negative else 2047) - balance) >> 4)
        magnitude = abs(level)
        bits = 0
        while bits < 7 and coder.bit(
            BITS + (spatial * 7 + bits) * 16 + activity, magnitude >> bits > 1
        ):
            bits += 1
        node = 1
        for i in range(bits - 1, -1, -1):
            place = (1 << bits) - 1 + node - 1
            if not spatial and place < 15:
                place += 256
            node = node * 2 + coder.bit(TREE + place, bool(magnitude >> i & 1))
        return -node if negative else node


def activity_class(activity: int) -> int:
    """Return the class of an activity, 0 to 15: logarithmic, two classes per octave."""
    value = activity >> 6
    if value < 2:
        return value
    bits = value.bit_length() - 1
    return min(15, 2 * bits + (value >> (bits - 1) & 1))


def activity_of(magnitude: int) -> int:
    """Return the value of a level of this magnitude in its input channel's activity average."""
    return (2 + 4 * (magnitude.bit_length() - 1)) * 512 if magnitude else 0


def _sign_class(level: int) -> int:
    return 2 if level > 0 else 1 if level < 0 else 0
