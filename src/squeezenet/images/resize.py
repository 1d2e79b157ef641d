"""The resize: one definition, in integers, that every client repeats bit for bit.

Antialiased triangle filter. Output place i of m looks at input places j of n with weight
max(0, S - |(2j+1)m - (2i+1)n|), S = 2 max(m, n): a triangle around the same point of the
picture, as wide as the larger of the two pixel pitches. To make integers that sum to 2^14, the
running sums of the weights are scaled by 2^14 / total and rounded (halves up), and their
differences taken. Columns are resized before rows; each pass rounds by (sum + 2^13) >> 14.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from squeezenet.images.decode import Pixels

_BITS = 14


@lru_cache(maxsize=256)
def filter_weights(n: int, m: int) -> npt.NDArray[np.int64]:
    """Return the integer weights of shape (m, n); each row sums to 2^14."""
    i = np.arange(m, dtype=np.int64)[:, None]
    j = np.arange(n, dtype=np.int64)[None, :]
    raw = np.maximum(0, 2 * max(m, n) - np.abs((2 * j + 1) * m - (2 * i + 1) * n))
    running = raw.cumsum(axis=1)
    total = running[:, -1:]
    rounded = ((running << (_BITS + 1)) + total) // (2 * total)
    scaled: npt.NDArray[np.int64] = np.diff(rounded, axis=1, prepend=0)
    scaled.flags.writeable = False
    return scaled


def resize(pixels_HWC: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 pixels (H, W, C) to (height, width, C)."""
    rows, columns = pixels_HWC.shape[:2]
    if columns != width:
        pixels_HWC = _apply(filter_weights(columns, width), pixels_HWC.swapaxes(0, 1))
        pixels_HWC = pixels_HWC.swapaxes(0, 1)
    if rows != height:
        pixels_HWC = _apply(filter_weights(rows, height), pixels_HWC)
    return np.ascontiguousarray(pixels_HWC)


def _apply(weights_mn: npt.NDArray[np.int64], pixels: Pixels) -> Pixels:
    """Resize the first axis of pixels (n, ...) to m.

    Products and sums stay under 2^22, so float32 matrix products are exact, and fast.
    """
    m = len(weights_mn)
    out = np.empty((m, *pixels.shape[1:]), np.uint8)
    # Weights form a band: a block of output rows touches few input rows.
    block = max(16, m // 16)
    for start in range(0, m, block):
        part = weights_mn[start : start + block]
        touched = np.flatnonzero(part.any(axis=0))
        low, high = int(touched[0]), int(touched[-1]) + 1
        source = pixels[low:high].astype(np.float32).reshape(high - low, -1)
        sums = part[:, low:high].astype(np.float32) @ source
        rounded = (sums.astype(np.int32) + (1 << (_BITS - 1))) >> _BITS
        out[start : start + block] = rounded.reshape(-1, *pixels.shape[1:]).astype(np.uint8)
    return out
