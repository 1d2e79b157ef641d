"""The numbers that a file stores exactly, and rounding to them: scales, biases, activation scales.

Legend: O output channels.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.errors import WeightsError

Float32Array: TypeAlias = npt.NDArray[np.float32]
UInt8Array: TypeAlias = npt.NDArray[np.uint8]
Int8Array: TypeAlias = npt.NDArray[np.int8]

SCALE_MANTISSA_BITS = 5
"""Mantissa bits of a weight scale: neighbouring scales differ by 1.6 to 3.1 percent."""
ACTIVATION_SCALE_MANTISSA_BITS = 7
"""Mantissa bits of an activation scale, as in bfloat16."""
MAX_BIAS_SHIFT = 30
MAX_BIAS = 1 << 24
"""A bias is an integer of at most this magnitude, times 2^-shift with a shift of 0 to 30:
spec/FORMAT.md, "WEIGHTS". It is exact in float32."""


def mantissa_bits(values: Float32Array) -> int:
    """Return the number of leading mantissa bits that represent all float32 values exactly."""
    union = int(np.bitwise_or.reduce(values.view(np.uint32) & 0x7FFFFF, initial=0))
    return 23 - ((union & -union).bit_length() - 1) if union else 0


def round_mantissa(values: npt.NDArray[np.floating[Any]], bits: int) -> Float32Array:
    """Return the nearest float32 values with ``bits`` mantissa bits, halves away from 0."""
    drop = 23 - bits
    words: npt.NDArray[np.uint32] = values.astype(np.float32).view(np.uint32)
    words = ((words + np.uint32((1 << drop) >> 1)) >> np.uint32(drop)) << np.uint32(drop)
    return words.view(np.float32)


def round_scales(scales_O: npt.NDArray[np.floating[Any]]) -> Float32Array:
    """Return the nearest valid weight scales, float32 (O,): see ``LevelWeights``."""
    return round_mantissa(scales_O, SCALE_MANTISSA_BITS)


def scales_around(scale: float, count: int) -> Float32Array:
    """Return ``count`` (odd) neighbouring valid weight scales, ascending.

    The one nearest to ``scale`` is in the middle, except near the smallest and the largest scale.
    """
    unit = 1 << (23 - SCALE_MANTISSA_BITS)
    middle = int(round_scales(np.array([scale])).view(np.uint32)[0]) // unit
    infinity = 0x7F800000 // unit
    first = min(max(1, middle - count // 2), infinity - count)
    words = np.arange(first, first + count, dtype=np.uint32) * np.uint32(unit)
    return words.view(np.float32)


def round_activation_scale(scale: float) -> float:
    """Return the nearest valid activation scale: see ``ActivationScale``."""
    return float(round_mantissa(np.array([scale]), ACTIVATION_SCALE_MANTISSA_BITS)[0])


def bias_shift(bias_O: Float32Array) -> int:
    """Return the smallest s for which bias * 2^s is an integer for all biases.

    Raises:
        WeightsError: there is none up to 30, or such an integer is beyond 2^24.
    """
    for shift in range(MAX_BIAS_SHIFT + 1):
        scaled = np.ldexp(bias_O.astype(np.float64), shift)
        if (scaled == np.rint(scaled)).all() and np.abs(scaled).max(initial=0) <= MAX_BIAS:
            return shift
    raise WeightsError(
        f"biases are not integers of at most 2^24 times 2^-s with s of 0 to {MAX_BIAS_SHIFT}, as "
        "expected in layers with levels; use round_biases"
    )


def round_biases(bias_O: npt.NDArray[np.floating[Any]], step: float) -> Float32Array:
    """Return biases rounded to multiples of the largest power of two up to ``step``, float32 (O,).

    The power is at most 1 and at least 2^-30; magnitudes are clipped to 2^24 of it.
    """
    shift = min(max(0, math.ceil(-math.log2(step))), MAX_BIAS_SHIFT)
    multiples = np.rint(np.ldexp(bias_O.astype(np.float64), shift)).clip(-MAX_BIAS, MAX_BIAS)
    rounded: Float32Array = np.ldexp(multiples, -shift).astype(np.float32) + np.float32(0)  # no -0
    return rounded
