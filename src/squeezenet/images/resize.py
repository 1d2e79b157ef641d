"""The resize, defined in integers: every client computes it bit for bit (spec/INTEGER.md).

An antialiased triangle filter. Output pixel i of m takes input pixel j of n with weight
max(0, S - |(2j+1)m - (2i+1)n|), S = 2 max(m, n). This is a triangle centred on the same point of
the picture; its half-width is the larger of the two pixel pitches. Integer weights that sum to
2^14: the running sums of the weights are scaled by 2^14 / total and rounded half up, and their
differences taken. Columns are resized before rows; each pass rounds by (sum + 2^13) >> 14.

Only the requested window of the output is computed, from the input that it needs. So even a very
long picture costs little.

``resize`` is the definition in NumPy, for evaluation and as the oracle of the clients.
``resize_rectangle`` computes the same bytes in C, five times as fast, for training.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet import _native
from squeezenet.images.decode import Pixels

IntArray: TypeAlias = npt.NDArray[np.int64]

_BITS = 14
"""Fractional bits of the filter weights: spec/INTEGER.md, "From a picture to pixels"."""
_CHUNK_ELEMENTS = 1 << 22
"""Pixels that are held as float32 at a time: 16 MiB."""


@lru_cache(maxsize=64)
def filter_taps(n: int, m: int, start: int, stop: int) -> tuple[IntArray, IntArray]:
    """Return the filters of output pixels ``start`` .. ``stop`` - 1 when n pixels become m.

    First: the input index of each filter's first tap, (count,). Second: the integer weights,
    (count, taps). Each row sums to 2^14; taps outside of the input have weight 0.
    """
    i = np.arange(start, stop, dtype=np.int64)
    support = 2 * max(m, n)
    centres = (2 * i + 1) * n
    firsts = (centres - support - m) // (2 * m) + 1  # the first j with a positive weight
    num_taps = 2 * max(m, n) // m + 1
    j = firsts[:, None] + np.arange(num_taps, dtype=np.int64)
    raw = np.maximum(0, support - np.abs((2 * j + 1) * m - centres[:, None]))
    raw[(j < 0) | (j >= n)] = 0
    running = raw.cumsum(axis=1)
    total = running[:, -1:]
    rounded = ((running << (_BITS + 1)) + total) // (2 * total)
    weights = np.diff(rounded, axis=1, prepend=0)
    firsts.flags.writeable = weights.flags.writeable = False
    return firsts, weights


def resize(
    pixels_HWC: Pixels,
    height: int,
    width: int,
    window: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """Resize uint8 pixels (H, W, C) to (height, width, C).

    With ``window`` (top, left, rows, columns), compute only that part of the result.
    """
    top, left, rows, columns = window or (0, 0, height, width)
    in_rows, in_columns = pixels_HWC.shape[:2]
    if in_rows == height:
        pixels_HWC, offset = pixels_HWC[top : top + rows], 0
    else:
        firsts, weights = filter_taps(in_rows, height, top, top + rows)
        offset = max(0, int(firsts[0]))
        pixels_HWC = pixels_HWC[offset : int(firsts[-1]) + weights.shape[1]]
    if in_columns == width:
        pixels_HWC = pixels_HWC[:, left : left + columns]
    else:
        taps = filter_taps(in_columns, width, left, left + columns)
        pixels_HWC = _apply(*taps, 0, pixels_HWC.swapaxes(0, 1)).swapaxes(0, 1)
    if in_rows != height:
        pixels_HWC = _apply(firsts, weights, offset, pixels_HWC)
    return np.ascontiguousarray(pixels_HWC)


def resize_rectangle(
    pixels_HWC: Pixels,
    rectangle: tuple[int, int, int, int],
    height: int,
    width: int,
    window: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """Resize a rectangle (top, left, rows, columns) of RGB pixels as ``resize`` does."""
    assert pixels_HWC.dtype == np.uint8 and pixels_HWC.shape[2] == 3
    window = window or (0, 0, height, width)
    out_HWC = np.empty((*window[2:], 3), np.uint8)
    whole_HWC = np.ascontiguousarray(pixels_HWC)
    _native.resize(whole_HWC, whole_HWC.shape[:2], rectangle, (height, width), window, out_HWC)
    return out_HWC


def _apply(firsts: IntArray, weights: IntArray, offset: int, pixels: Pixels) -> Pixels:
    """Resize the first axis of ``pixels``, whose first row is input row ``offset``.

    Products and sums stay under 2^22, so float32 matrix products are exact, and fast.
    """
    count, num_taps = weights.shape
    out = np.empty((count, *pixels.shape[1:]), np.uint8)
    # Filters of neighbouring pixels overlap, so a block of filters is a small dense matrix.
    block = max(8, count // 16)
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        low = max(0, int(firsts[part][0]) - offset)
        high = min(len(pixels), int(firsts[part][-1]) - offset + num_taps)
        taps = firsts[part, None] - offset - low + np.arange(num_taps)
        dense = np.zeros((part.stop - part.start, high - low), np.float32)
        inside = (taps >= 0) & (taps < high - low)
        lines = np.broadcast_to(np.arange(len(dense))[:, None], taps.shape)
        dense[lines[inside], taps[inside]] = weights[part][inside]
        source = pixels[low:high].reshape(high - low, -1)
        target = out[part].reshape(len(dense), -1)
        chunk = max(1, _CHUNK_ELEMENTS // (high - low))
        for left in range(0, source.shape[1], chunk):
            sums = dense @ source[:, left : left + chunk].astype(np.float32)
            rounded = (sums.astype(np.int32) + (1 << (_BITS - 1))) >> _BITS
            target[:, left : left + chunk] = rounded.astype(np.uint8)
    return out
