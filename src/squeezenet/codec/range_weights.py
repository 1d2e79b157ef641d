"""The weights of all layers <-> one stream of the range coder: spec/FORMAT.md, "Weights".

One text codes and decodes: every step takes what to code, or ignores it, and returns what was
coded, as the coder's own functions do. Output channels follow one another, each with its scale,
bias and levels, so that a client can stop behind any of them.
Legend: O output channels, I input channels of a group, H W kernel height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from squeezenet._native import Decoder, Encoder
from squeezenet.arch.graph import Conv
from squeezenet.codec.numerics import (
    MAX_BIAS_SHIFT,
    SCALE_MANTISSA_BITS,
    Float32Array,
    bias_shift,
    mantissa_bits,
)
from squeezenet.codec.range_coder import MAX_MAGNITUDE, NUMBERS, OVERRUN, SLOT_CONTEXTS
from squeezenet.codec.types import MAX_CODEBOOK, CodebookWeights, CompressedLayer, LevelWeights
from squeezenet.errors import MalformedError

_FIRST_VALUE, _NEXT_VALUE, _EXPONENT, _SCALE, _SHIFT, _BIAS = (
    NUMBERS + SLOT_CONTEXTS * i for i in range(6)
)
_CODEBOOK: Final = 0
_LEVELS: Final = 1
_TRELLIS: Final = 2
_FLOAT_MANTISSA: Final = 23
_MAX_EXPONENT: Final = 254
_INFINITE: Final = 0x7F800000
_SCALE_SHIFT: Final = _FLOAT_MANTISSA - SCALE_MANTISSA_BITS
_RAW_BITS: Final = 9
MAX_WEIGHTS_PER_BYTE: Final = 4096
"""No stream spends fewer than 1/282 bits on a level; a header that claims more is a lie."""


class SymbolCoder(Protocol):
    """What ``squeezenet._native`` and the oracle, ``codec.coder``, have in common."""

    def plain(self, count: int, value: int = ..., /) -> int: ...
    def number(self, slot: int, value: int = ..., /) -> int: ...
    def begin(self, inputs: int, height: int, width: int, trellis: bool = ..., /) -> None: ...
    def channel(self, levels: Any, /) -> None: ...


def encode_weights(layers: Sequence[CompressedLayer]) -> bytes:
    """Return the stream of all layers; equal layers give equal bytes.

    What the model of weights would make longer than 9 bits a level is coded without it.
    """
    data, _ = _encode(layers, raw=False)
    num_weights = sum(layer.num_weights for layer in layers)
    if 8 * len(data) > _RAW_BITS * num_weights:
        data = min(data, _encode(layers, raw=True)[0], key=len)
    return data


def layer_bytes(layers: Sequence[CompressedLayer]) -> list[int]:
    """Return what each layer takes of the stream, all side information included."""
    data, ends = _encode(layers, raw=False)
    return [end - start for start, end in pairwise([0, *ends[:-1], len(data)])]


def _encode(layers: Sequence[CompressedLayer], *, raw: bool) -> tuple[bytes, list[int]]:
    """Return the stream, and where about each layer ends in it."""
    encoder = Encoder()
    job = _Layers(encoder, "weights", raw=raw)
    ends = []
    for layer in layers:
        job.code(layer.weights.symbols_OIHW.shape, layer)
        ends.append(encoder.size)
    return encoder.finish(), ends


def has_trellis(layers: Sequence[CompressedLayer]) -> bool:
    """Whether ``encode_weights`` makes of layers what version 1 of the format does not have."""
    return any(
        isinstance(layer.weights, LevelWeights) and layer.weights.trellis for layer in layers
    )


def decode_weights(
    data: bytes, convs: Sequence[Conv], where: str, *, trellis: bool = True
) -> tuple[CompressedLayer, ...]:
    """Read ``encode_weights``' bytes for the convolutions of a graph; ``trellis``: whether levels
    may be on it.

    Raises:
        MalformedError: they are not such a stream.
    """
    decoder = Decoder(data)
    job = _Layers(decoder, where, trellis=trellis, num_bytes=len(data))
    layers = []
    for conv in convs:
        job.where = f"{where}: {conv.name}"
        weights, bias_O = job.code(conv.weight_shape)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
    if not decoder.at_end:
        raise MalformedError(f"{where}: the weights do not end where their section does")
    return tuple(layers)


class _Layers:
    """Codes one layer after another; what a layer takes from the one before is kept here."""

    def __init__(
        self,
        coder: SymbolCoder,
        where: str,
        *,
        raw: bool = False,
        trellis: bool = True,
        num_bytes: int | None = None,
    ) -> None:
        self.where = where
        self._trellis = trellis
        self._coder = coder
        self._raw = raw
        self._num_bytes = num_bytes
        self._exponent = self._scale = self._shift = 0

    def code(
        self, shape: tuple[int, ...], layer: CompressedLayer | None = None
    ) -> tuple[CodebookWeights | LevelWeights, Float32Array]:
        """Code a layer of ``shape`` OIHW; ``layer`` None decodes."""
        coder = self._coder
        weights = layer.weights if layer is not None else None
        bias_O = layer.bias_O if layer is not None else np.zeros(shape[0], np.float32)
        kind = coder.plain(2, self._kind(weights))
        raw = coder.plain(1, self._raw)
        if raw and self._num_bytes is not None and self._too_many_raw(math.prod(shape)):
            raise MalformedError(f"{self.where}: more raw weights than the stream has bits for")
        inputs, height, width = shape[1:]
        coder.begin(inputs, height, width, kind == _TRELLIS)
        rows = np.zeros((shape[0], shape[1] * shape[2] * shape[3]), np.int16)
        if kind == _LEVELS or (kind == _TRELLIS and self._trellis and not raw):
            scales_O = np.zeros(shape[0], np.float32)
            if isinstance(weights, LevelWeights):
                rows[:] = weights.levels_OIHW.reshape(rows.shape)
                scales_O = weights.scales_O
            scales_O, bias_O = self._levels(rows, scales_O, bias_O, raw)
            if np.abs(rows).max(initial=0) > 127:
                raise MalformedError(f"{self.where}: a level is beyond 127")
            levels_OIHW = rows.astype(np.int8).reshape(shape)
            weights = LevelWeights(
                levels_OIHW=levels_OIHW, scales_O=scales_O, trellis=kind == _TRELLIS
            )
            return weights, bias_O
        if kind != _CODEBOOK:
            raise MalformedError(f"{self.where}: representation {kind}, raw {raw}")
        negatives = positives = np.zeros(0, np.float32)
        if weights is not None:
            assert isinstance(weights, CodebookWeights)
            ranks_OIHW, negatives, positives = _ranked(weights)
            rows[:] = ranks_OIHW.reshape(rows.shape)
        negatives, positives = self._codebook(negatives, positives)
        bias_O = self._codes(rows, bias_O, raw)
        if rows.min(initial=0) < -negatives.size or rows.max(initial=0) > positives.size:
            raise MalformedError(f"{self.where}: a code is not in the codebook")
        return _unranked(rows.reshape(shape), negatives, positives), bias_O

    def _kind(self, weights: CodebookWeights | LevelWeights | None) -> int:
        if not isinstance(weights, LevelWeights):
            return _CODEBOOK
        return _TRELLIS if weights.trellis and not self._raw else _LEVELS

    def _too_many_raw(self, num_weights: int) -> bool:
        """Whether a stream ends before so many: told before Python works through them."""
        assert self._num_bytes is not None
        return num_weights * _RAW_BITS > 8 * (self._num_bytes + OVERRUN)

    def _levels(
        self,
        rows: npt.NDArray[np.int16],
        scales_O: Float32Array,
        bias_O: Float32Array,
        raw: int,
    ) -> tuple[Float32Array, Float32Array]:
        """Code scales, biases and levels; the levels in place."""
        coder = self._coder
        self._shift += coder.number(_SHIFT, bias_shift(bias_O) - self._shift)
        if not 0 <= self._shift <= MAX_BIAS_SHIFT:
            raise MalformedError(f"{self.where}: a bias shift of {self._shift}")
        biases = np.rint(np.ldexp(bias_O.astype(np.float64), self._shift)).astype(np.int64)
        codes = scales_O.view(np.uint32) >> _SCALE_SHIFT
        bias_values, scale_codes = [], []
        for o in range(len(rows)):
            self._scale += coder.number(_SCALE, int(codes[o]) - self._scale)
            scale_codes.append(self._scale)
            if not 0 < self._scale < (_MAX_EXPONENT + 1) << SCALE_MANTISSA_BITS:
                raise MalformedError(f"{self.where}: a scale code of {self._scale}")
            bias_values.append(coder.number(_BIAS, int(biases[o])))
            self._row(rows[o], raw)
        if max(map(abs, bias_values)) > 1 << 24:
            raise MalformedError(f"{self.where}: a bias beyond 2^24")
        scales_O = (np.array(scale_codes, np.uint32) << _SCALE_SHIFT).view(np.float32)
        bias_O = np.ldexp(np.array(bias_values, np.float64), -self._shift).astype(np.float32)
        return scales_O, bias_O

    def _codebook(
        self, negatives: Float32Array, positives: Float32Array
    ) -> tuple[Float32Array, Float32Array]:
        """Code two lists of values whose magnitudes grow."""
        coder = self._coder
        bits = coder.plain(5, mantissa_bits(np.concatenate([negatives, positives])))
        if bits > _FLOAT_MANTISSA:
            raise MalformedError(f"{self.where}: a codebook with {bits} bits of mantissa")
        drop = _FLOAT_MANTISSA - bits
        infinite = _INFINITE >> drop
        counts = [coder.plain(8, values.size) for values in (negatives, positives)]
        if sum(counts) >= MAX_CODEBOOK:
            raise MalformedError(f"{self.where}: a codebook of {sum(counts) + 1} entries")
        coded = []
        for count, values, sign in zip(counts, (negatives, positives), (1 << 31, 0), strict=True):
            known = ((values.view(np.uint32) & 0x7FFFFFFF) >> drop).tolist() or [0] * count
            keys = [coder.number(_FIRST_VALUE, known[0])] if count else []
            for key in known[1:]:
                keys.append(keys[-1] + coder.number(_NEXT_VALUE, key - keys[-1]))
                if not keys[-2] < keys[-1] < infinite:
                    raise MalformedError(
                        f"{self.where}: the codebook does not grow, or beyond all numbers"
                    )
            if count and not (sign == 0) <= keys[0] < infinite:
                raise MalformedError(f"{self.where}: a codebook value is no finite number")
            coded.append((np.array(keys, np.uint32) << drop | np.uint32(sign)).view(np.float32))
        return coded[0], coded[1]

    def _codes(self, rows: npt.NDArray[np.int16], bias_O: Float32Array, raw: int) -> Float32Array:
        """Code float biases and codes; the codes in place."""
        coder = self._coder
        bits = coder.plain(5, mantissa_bits(bias_O))
        if bits > _FLOAT_MANTISSA:
            raise MalformedError(f"{self.where}: biases with {bits} bits of mantissa")
        drop = _FLOAT_MANTISSA - bits
        known = bias_O.view(np.uint32).tolist()
        words = []
        for o in range(len(rows)):
            exponent = known[o] >> _FLOAT_MANTISSA & 0xFF
            self._exponent += coder.number(_EXPONENT, exponent - self._exponent)
            if not 0 <= self._exponent <= _MAX_EXPONENT:
                raise MalformedError(f"{self.where}: a bias is no finite number")
            sign = coder.plain(1, known[o] >> 31)
            mantissa = coder.plain(bits, (known[o] & 0x7FFFFF) >> drop) << drop
            words.append(sign << 31 | self._exponent << _FLOAT_MANTISSA | mantissa)
            self._row(rows[o], raw)
        return np.array(words, np.uint32).view(np.float32)

    def _row(self, row: npt.NDArray[np.int16], raw: int) -> None:
        """Code one output channel's levels in place."""
        if not raw:
            self._coder.channel(row)
            return
        for i, level in enumerate(row.tolist()):
            row[i] = self._coder.plain(_RAW_BITS, level + MAX_MAGNITUDE + 1) - MAX_MAGNITUDE - 1
        if row.min(initial=0) < -MAX_MAGNITUDE:
            raise MalformedError(f"{self.where}: a level is beyond {MAX_MAGNITUDE}")


def _ranked(
    weights: CodebookWeights,
) -> tuple[npt.NDArray[np.int16], Float32Array, Float32Array]:
    """Turn codes into ranks: -k for the k-th value below zero, k for the k-th above, counted from
    zero. Returns them with both lists of values. Equal values share a rank, unused have none."""
    used = np.unique(weights.codes_OIHW)
    words = weights.codebook.view(np.uint32)
    below = np.unique(words[used[(words[used] >> 31) == 1]])
    above = np.unique(words[used[((words[used] >> 31) == 0) & (words[used] != 0)]])
    rank_of = np.zeros(weights.codebook.size, np.int16)
    for code in used.tolist():
        if words[code] >> 31:
            rank_of[code] = -1 - int(np.searchsorted(below, words[code]))
        elif words[code]:
            rank_of[code] = 1 + int(np.searchsorted(above, words[code]))
    return rank_of[weights.codes_OIHW], below.view(np.float32), above.view(np.float32)


def _unranked(
    ranks_OIHW: npt.NDArray[np.int16], negatives: Float32Array, positives: Float32Array
) -> CodebookWeights:
    codes_OIHW = np.where(ranks_OIHW < 0, -ranks_OIHW, ranks_OIHW + negatives.size)
    codes_OIHW[ranks_OIHW == 0] = 0
    codebook = np.concatenate([np.zeros(1, np.float32), negatives, positives])
    return CodebookWeights(codes_OIHW=codes_OIHW.astype(np.uint8), codebook=codebook)
