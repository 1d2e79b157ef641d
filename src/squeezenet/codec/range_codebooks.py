"""Layers with codebooks through the range coder: spec/FORMAT.md, "WEIGHTS", codebook.

Values are sorted by magnitude, and codes become ranks: -k is the k-th negative value, k the k-th
positive, 0 is 0.0. So the context model sees small numbers, as it does with levels. Encoder and
decoder share one code path: see ``range_coder``.

Legend: O output channels, I input channels of a group, H W kernel height and width; K = I * H * W.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from squeezenet.codec.numerics import Float32Array, UInt8Array, mantissa_bits
from squeezenet.codec.range_coder import MAX_MAGNITUDE, NUMBERS, SLOT_CONTEXTS
from squeezenet.codec.range_rows import Rows, SymbolCoder, code_row
from squeezenet.codec.types import MAX_CODEBOOK, CodebookWeights
from squeezenet.errors import MalformedError

# The slots of contexts of spec/FORMAT.md, and the parts of a float32.
_FIRST_VALUE, _NEXT_VALUE, _EXPONENT = (NUMBERS + SLOT_CONTEXTS * i for i in (0, 1, 2))
_MANTISSA_BITS: Final = 23
_MAX_EXPONENT: Final = 254
_INFINITY: Final = 0x7F800000


class CodebookStream:
    """Codes layers with codebooks. A bias's exponent is a difference from the one before."""

    def __init__(self, coder: SymbolCoder) -> None:
        self._coder = coder
        self._exponent = 0

    def code(
        self,
        shape: tuple[int, ...],
        weights: CodebookWeights | None,
        bias_O: Float32Array,
        where: str,
        *,
        raw: bool,
    ) -> tuple[CodebookWeights, Float32Array]:
        """Code a layer of ``shape`` OIHW; ``weights`` None decodes.

        Raises:
            MalformedError: the codebook, a code or a bias is invalid.
        """
        codes_OK = np.zeros((shape[0], math.prod(shape[1:])), np.uint8)
        rank_of = np.zeros(1, np.int16)
        negatives = positives = np.zeros(0, np.float32)
        if weights is not None:
            codes_OK = weights.codes_OIHW.reshape(codes_OK.shape)
            rank_of, negatives, positives = _ranks(weights)
        negatives, positives = self._code_values(negatives, positives, where)
        code_of = None if weights is not None else _codes_by_rank(negatives.size, positives.size)
        bias_O, low, high = self._code_rows(codes_OK, bias_O, rank_of, code_of, where, raw)
        if weights is not None:
            return weights, bias_O
        if low < -negatives.size or high > positives.size:
            raise MalformedError(
                f"{where}: codes {low} to {high}, expected {-negatives.size} to {positives.size} "
                "as in the codebook"
            )
        codebook = np.concatenate([np.zeros(1, np.float32), negatives, positives])
        return CodebookWeights(codes_OIHW=codes_OK.reshape(shape), codebook=codebook), bias_O

    def _code_values(
        self, negatives: Float32Array, positives: Float32Array, where: str
    ) -> tuple[Float32Array, Float32Array]:
        """Code the negative and the positive values, both sorted by magnitude."""
        coder = self._coder
        known_bits = mantissa_bits(np.concatenate([negatives, positives]))
        drop = _MANTISSA_BITS - self._code_mantissa_bits(known_bits, f"{where}: codebook")
        num_negative, num_positive = (coder.plain(8, v.size) for v in (negatives, positives))
        if num_negative + num_positive >= MAX_CODEBOOK:
            raise MalformedError(
                f"{where}: codebook of {num_negative + num_positive + 1} entries, expected at most "
                f"{MAX_CODEBOOK}"
            )
        # -0.0 is a negative value; 0.0 has the code 0 and is not among the values.
        negative_words = self._code_magnitudes(negatives, num_negative, drop, where, minimum=0)
        positive_words = self._code_magnitudes(positives, num_positive, drop, where, minimum=1)
        sign = np.uint32(1 << 31)
        return (negative_words | sign).view(np.float32), positive_words.view(np.float32)

    def _code_magnitudes(
        self, values: Float32Array, count: int, drop: int, where: str, *, minimum: int
    ) -> npt.NDArray[np.uint32]:
        """Code ``count`` growing magnitudes: float32 words without their lowest ``drop`` bits."""
        coder = self._coder
        infinity = _INFINITY >> drop
        known = ((values.view(np.uint32) & 0x7FFFFFFF) >> drop).tolist() or [0] * count
        words = [coder.number(_FIRST_VALUE, known[0])] if count else []
        for word in known[1:]:
            words.append(words[-1] + coder.number(_NEXT_VALUE, word - words[-1]))
            if not words[-2] < words[-1] < infinity:
                raise MalformedError(
                    f"{where}: codebook magnitude {words[-1]} after {words[-2]}, expected a larger "
                    f"one below infinity ({infinity})"
                )
        if words and not minimum <= words[0] < infinity:
            raise MalformedError(
                f"{where}: codebook magnitude {words[0]}, expected {minimum} or more, below "
                f"infinity ({infinity})"
            )
        return np.array(words, np.uint32) << np.uint32(drop)

    def _code_rows(
        self,
        codes_OK: UInt8Array,
        bias_O: Float32Array,
        rank_of: Rows,
        code_of: UInt8Array | None,
        where: str,
        raw: bool,
    ) -> tuple[Float32Array, int, int]:
        """Code float32 biases and ranks; return also the lowest and the highest rank.

        One output channel at a time is in 16 bits, as the coder takes it. ``code_of`` decodes.
        """
        coder = self._coder
        bits = self._code_mantissa_bits(mantissa_bits(bias_O), f"{where}: bias")
        drop = _MANTISSA_BITS - bits
        known = bias_O.view(np.uint32).tolist()
        words = []
        row_K = np.zeros(codes_OK.shape[1], np.int16)
        low = high = 0
        for o in range(len(codes_OK)):
            exponent = known[o] >> _MANTISSA_BITS & 0xFF
            self._exponent += coder.number(_EXPONENT, exponent - self._exponent)
            if not 0 <= self._exponent <= _MAX_EXPONENT:
                raise MalformedError(
                    f"{where}: bias exponent {self._exponent}, expected 0 to {_MAX_EXPONENT}"
                )
            sign = coder.plain(1, known[o] >> 31)
            mantissa = coder.plain(bits, (known[o] & 0x7FFFFF) >> drop) << drop
            words.append(sign << 31 | self._exponent << _MANTISSA_BITS | mantissa)
            row_K[:] = rank_of[codes_OK[o]]
            code_row(coder, row_K, raw, where)
            low, high = min(low, int(row_K.min())), max(high, int(row_K.max()))
            if code_of is not None:
                codes_OK[o] = code_of[row_K]
        return np.array(words, np.uint32).view(np.float32), low, high

    def _code_mantissa_bits(self, known: int, what: str) -> int:
        bits = self._coder.plain(5, known)
        if bits > _MANTISSA_BITS:
            raise MalformedError(
                f"{what} with {bits} mantissa bits, expected at most {_MANTISSA_BITS}"
            )
        return bits


def _ranks(weights: CodebookWeights) -> tuple[Rows, Float32Array, Float32Array]:
    """Return the rank of each code, the negative and the positive values, sorted by magnitude.

    Equal values share a rank; unused values are left out.
    """
    is_used = np.zeros(weights.codebook.size, bool)
    for codes_IHW in weights.codes_OIHW:
        is_used[codes_IHW] = True
    used = np.flatnonzero(is_used)
    words = weights.codebook.view(np.uint32)
    negative = np.unique(words[used[(words[used] >> 31) == 1]])
    positive = np.unique(words[used[((words[used] >> 31) == 0) & (words[used] != 0)]])
    rank_of = np.zeros(weights.codebook.size, np.int16)
    for code in used.tolist():
        if words[code] >> 31:
            rank_of[code] = -1 - int(np.searchsorted(negative, words[code]))
        elif words[code]:
            rank_of[code] = 1 + int(np.searchsorted(positive, words[code]))
    return rank_of, negative.view(np.float32), positive.view(np.float32)


def _codes_by_rank(num_negatives: int, num_positives: int) -> UInt8Array:
    """Return the code of each rank; those of negative ranks are at negative indices."""
    code_of = np.zeros(2 * MAX_MAGNITUDE + 1, np.uint8)
    for k in range(1, num_negatives + 1):
        code_of[-k] = k
    for k in range(1, num_positives + 1):
        code_of[k] = num_negatives + k
    return code_of
