"""Layers with levels through the range coder: spec/FORMAT.md, "WEIGHTS", levels and trellis.

Encoder and decoder share one code path: see ``range_coder``.

Legend: O output channels, I input channels of a group, H W kernel height and width; K = I * H * W.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from squeezenet.codec.numerics import (
    MAX_BIAS,
    MAX_BIAS_SHIFT,
    SCALE_MANTISSA_BITS,
    Float32Array,
    Int8Array,
    bias_shift,
)
from squeezenet.codec.range_coder import NUMBERS, SLOT_CONTEXTS
from squeezenet.codec.range_rows import SymbolCoder, code_row
from squeezenet.codec.types import MAX_LEVEL, LevelWeights
from squeezenet.errors import MalformedError

# The slots of contexts of spec/FORMAT.md.
_SCALE, _SHIFT, _BIAS = (NUMBERS + SLOT_CONTEXTS * i for i in (3, 4, 5))
_SCALE_SHIFT: Final = 23 - SCALE_MANTISSA_BITS
_MAX_SCALE: Final = (255 << SCALE_MANTISSA_BITS) - 1
"""The code of the largest finite scale: exponent and mantissa of the float32."""


class LevelStream:
    """Codes layers with levels. Scale and bias shift are differences from those coded before."""

    def __init__(self, coder: SymbolCoder) -> None:
        self._coder = coder
        self._scale = self._shift = 0

    def code(
        self,
        shape: tuple[int, ...],
        weights: LevelWeights | None,
        bias_O: Float32Array,
        where: str,
        *,
        raw: bool,
        trellis: bool,
    ) -> tuple[LevelWeights, Float32Array]:
        """Code a layer of ``shape`` OIHW; ``weights`` None decodes.

        Raises:
            MalformedError: a shift, scale, bias or level is out of range.
        """
        levels_OK = np.zeros((shape[0], math.prod(shape[1:])), np.int8)
        scales_O = np.zeros(shape[0], np.float32)
        if weights is not None:
            levels_OK = weights.levels_OIHW.reshape(levels_OK.shape)
            scales_O = weights.scales_O
        scales_O, bias_O, largest = self._code_rows(
            levels_OK, scales_O, bias_O, where, raw, decoding=weights is None
        )
        if largest > MAX_LEVEL:
            raise MalformedError(
                f"{where}: level of magnitude {largest}, expected at most {MAX_LEVEL}"
            )
        levels_OIHW = levels_OK.reshape(shape)
        return LevelWeights(levels_OIHW=levels_OIHW, scales_O=scales_O, trellis=trellis), bias_O

    def _code_rows(
        self,
        levels_OK: Int8Array,
        scales_O: Float32Array,
        bias_O: Float32Array,
        where: str,
        raw: bool,
        *,
        decoding: bool,
    ) -> tuple[Float32Array, Float32Array, int]:
        """Code scales, biases and levels; return also the largest magnitude of a level.

        One output channel at a time is in 16 bits, as the coder takes it.
        """
        coder = self._coder
        self._shift += coder.number(_SHIFT, bias_shift(bias_O) - self._shift)
        if not 0 <= self._shift <= MAX_BIAS_SHIFT:
            raise MalformedError(
                f"{where}: bias shift {self._shift}, expected 0 to {MAX_BIAS_SHIFT}"
            )
        known_biases = np.rint(np.ldexp(bias_O.astype(np.float64), self._shift)).astype(np.int64)
        known_scales = scales_O.view(np.uint32) >> _SCALE_SHIFT
        biases, scales = [], []
        row_K = np.zeros(levels_OK.shape[1], np.int16)
        largest_level = 0
        for o in range(len(levels_OK)):
            self._scale += coder.number(_SCALE, int(known_scales[o]) - self._scale)
            if not 1 <= self._scale <= _MAX_SCALE:
                raise MalformedError(
                    f"{where}: scale code {self._scale}, expected 1 to {_MAX_SCALE}"
                )
            scales.append(self._scale)
            biases.append(coder.number(_BIAS, int(known_biases[o])))
            row_K[:] = levels_OK[o]
            code_row(coder, row_K, raw, where)
            if decoding:
                largest_level = max(largest_level, int(row_K.max()), -int(row_K.min()))
                levels_OK[o] = row_K  # what does not fit is refused in the end
        largest = max(map(abs, biases))
        if largest > MAX_BIAS:
            raise MalformedError(
                f"{where}: bias of magnitude {largest}, expected at most {MAX_BIAS}"
            )
        scales_O = (np.array(scales, np.uint32) << _SCALE_SHIFT).view(np.float32)
        bias_O = np.ldexp(np.array(biases, np.float64), -self._shift).astype(np.float32)
        return scales_O, bias_O, largest_level
