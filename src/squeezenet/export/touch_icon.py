"""The page's icon as a PNG for iOS, which takes neither SVG nor the manifest's icons.

Drawn as ``web/icon.svg`` is: three bars with round ends. Corners are square, since iOS cuts them.
Written out: Pillow's file is 48 bytes larger, and the page of 140,000 bytes has hardly more left.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIDE = 180
"""Pixels, which iOS asks for."""
_UNITS = 96
_BARS = ((20, 26, 56), (30, 48, 36), (40, 70, 16))
"""Start and length of each in x, and its middle in y between them, in units of the SVG."""
_RADIUS = 6
_BLUE, _WHITE = (0x1D, 0x5F, 0xA8), (0xFF, 0xFF, 0xFF)
_SHADES = 4


def touch_icon() -> bytes:
    """Return the PNG: two bits per pixel, the shades between blue and white smooth the edges."""
    x, y = np.meshgrid(*[(np.arange(SIDE) + 0.5) * _UNITS / SIDE] * 2)
    white = np.zeros((SIDE, SIDE))
    for left, middle, length in _BARS:
        distance = np.hypot(x - np.clip(x, left, left + length), y - middle)
        inside = (_RADIUS - distance) * SIDE / _UNITS + 0.5  # the edge is a pixel wide
        white = np.maximum(white, np.clip(inside, 0, 1))
    shades = np.round(white * (_SHADES - 1)).astype(np.uint8).reshape(SIDE, -1, 4)
    packed = (shades << np.array([6, 4, 2, 0], np.uint8)).sum(axis=2, dtype=np.uint8)
    rows = np.pad(packed, ((0, 0), (1, 0)))  # no filter
    palette = [
        round(blue + (white - blue) * i / (_SHADES - 1))
        for i in range(_SHADES)
        for blue, white in zip(_BLUE, _WHITE, strict=True)
    ]
    header = struct.pack(">2I5B", SIDE, SIDE, 2, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*each)
        for each in (
            (b"IHDR", header),
            (b"PLTE", bytes(palette)),
            (b"IDAT", zlib.compress(rows.tobytes(), 9)),
            (b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
