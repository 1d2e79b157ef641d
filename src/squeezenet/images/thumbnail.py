"""Small pictures of pictures, encoded, for pages that carry them inside."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from squeezenet.images.decode import Pixels
from squeezenet.images.resize import resize

_MAX_LOSSLESS = 32
"""Up to this side in pixels a PNG is as small as a JPEG, and sharp."""
_QUALITY = 75
"""Of a JPEG: about 3 KB at 96 pixels."""


def thumbnail(pixels_HWC: Pixels, side: int) -> tuple[str, bytes]:
    """Return the media type and bytes of the central square of RGB pixels, uint8 (H, W, 3).

    It has at most ``side`` pixels per side, and is never enlarged.
    """
    height, width = pixels_HWC.shape[:2]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    square_HWC = pixels_HWC[top : top + square, left : left + square]
    if square > side:
        square_HWC = resize(np.ascontiguousarray(square_HWC), side, side)
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(square_HWC))
    if min(square, side) <= _MAX_LOSSLESS:
        picture.save(file, "PNG")
        return "image/png", file.getvalue()
    picture.save(file, "JPEG", quality=_QUALITY)
    return "image/jpeg", file.getvalue()
