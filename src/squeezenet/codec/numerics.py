"""Numbers that a file can hold exactly, and rounding to them: scales, biases, activation scales.

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
"""Largest integer magnitude of a bias, in units of 2^-shift: exact in float32."""


def mantissa_bits(values: Float32Array) -> int:
    """Return how many bits of the mantissa, from its highest, any of the values has set."""
    together = int(np.bitwise_or.reduce(values.view(np.uint32) & 0x7FFFFF, initial=0))
    return 23 - ((together & -together).bit_length() - 1) if together else 0


def round_mantissa(values: npt.NDArray[np.floating[Any]], bits: int) -> Float32Array:
    """Return the nearest float32 values with so many bits of mantissa: those that a file holds
    in fewer bits."""
    drop = 23 - bits
    words: npt.NDArray[np.uint32] = values.astype(np.float32).view(np.uint32)
    words = ((words + np.uint32((1 << drop) >> 1)) >> np.uint32(drop)) << np.uint32(drop)
    return words.view(np.float32)


def round_scales(scales_O: npt.NDArray[np.floating[Any]]) -> Float32Array:
    """Return the nearest scales that ``LevelWeights`` can have."""
    return round_mantissa(scales_O, SCALE_MANTISSA_BITS)


def scales_around(scale: float, count: int) -> Float32Array:
    """Return ``count`` neighbouring scales that ``LevelWeights`` can have, an odd number, of which
    the nearest to ``scale`` stands in the middle unless there are not as many on both sides."""
    unit = 1 << (23 - SCALE_MANTISSA_BITS)
    middle = int(round_scales(np.array([scale])).view(np.uint32)[0]) // unit
    most = 0x7F800000 // unit  # infinity
    first = min(max(1, middle - count // 2), most - count)
    words = np.arange(first, first + count, dtype=np.uint32) * np.uint32(unit)
    return words.view(np.float32)


def round_activation_scale(scale: float) -> float:
    """Return the nearest scale that an ``ActivationScale`` can have."""
    return float(round_mantissa(np.array([scale]), ACTIVATION_SCALE_MANTISSA_BITS)[0])


def bias_shift(bias_O: Float32Array) -> int:
    """Return the least s for which bias * 2^s is whole for all biases.

    Raises:
        WeightsError: there is none up to 30, or a bias is then beyond 2^24.
    """
    for shift in range(MAX_BIAS_SHIFT + 1):
        scaled = np.ldexp(bias_O.astype(np.float64), shift)
        if (scaled == np.rint(scaled)).all() and np.abs(scaled).max(initial=0) <= MAX_BIAS:
            return shift
    raise WeightsError(
        "biases beside levels must be whole multiples of a power of two, at most 2^24 of it; "
        "use round_biases"
    )


def round_biases(bias_O: npt.NDArray[np.floating[Any]], step: float) -> Float32Array:
    """Return biases rounded to a power of two, at most ``step``, as a file holds them."""
    shift = min(max(0, math.ceil(-math.log2(step))), MAX_BIAS_SHIFT)
    whole = np.rint(np.ldexp(bias_O.astype(np.float64), shift)).clip(-MAX_BIAS, MAX_BIAS)
    rounded: Float32Array = np.ldexp(whole, -shift).astype(np.float32) + np.float32(0)  # no -0
    return rounded
