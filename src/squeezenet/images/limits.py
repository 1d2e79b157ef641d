"""What reading one image may cost: for those who read files of strangers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squeezenet.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL import Image

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_BYTES_PER_PIXEL = {"WEBP": 20, "AVIF": 16, "JPEG2000": 28, "HEIF": 12}
"""Memory of decoding at its peak, measured on 16 to 25 megapixels (WEBP 17, AVIF 14, JPEG2000 25,
HEIF 9); other formats take 8: the decoded pixels and those in RGB, 4 bytes each."""
_EXTRA_IF_PROGRESSIVE = 6
"""libjpeg holds all coefficients of a progressive JPEG: 2 bytes for each of 3 colours."""
_EXTRA_IF_CONVERTED = 4
"""An image that is no RGB may be converted and then turned, as its orientation says."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """The largest image that is read. It is checked by the header, before a pixel is decoded.

    ``max_pixels``: height times width (default 134 million). ``max_memory``: bytes that decoding
    takes at its peak, estimated by format (default 1 GiB).
    """

    max_pixels: int = 1 << 27
    max_memory: int = 1 << 30

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or self.max_memory < 1:
            raise UsageError(
                f"max_pixels {self.max_pixels}, max_memory {self.max_memory}; expected 1 or more"
            )

    def check(self, image: Image.Image, name: str) -> None:
        """Refuse an opened image that is too large.

        Raises:
            ImageError: says how large it is and what is allowed.
        """
        num_pixels = image.width * image.height
        size = f"{image.width}x{image.height} pixels"
        if num_pixels > self.max_pixels:
            raise ImageError(
                f"{name}: {size}, expected at most {self.max_pixels}; --max-pixels allows more"
            )
        num_bytes = num_pixels * _bytes_per_pixel(image)
        if num_bytes > self.max_memory:
            raise ImageError(
                f"{name}: decoding {size} takes {_megabytes(num_bytes)}, expected at most "
                f"{_megabytes(self.max_memory)}; --max-memory allows more"
            )


DEFAULT_LIMITS = ImageLimits()
DEFAULT_MAX_MEMORY = "1G"
"""``DEFAULT_LIMITS.max_memory`` as an option has it."""


def parse_limits(max_pixels: int, max_memory: str) -> ImageLimits:
    """Return the limits of the options ``--max-pixels`` and ``--max-memory``, such as 500M or 2G.

    Raises:
        UsageError: either is no positive number.
    """
    num_bytes = parse_bytes(max_memory)
    if max_pixels < 1 or num_bytes < 1:
        raise UsageError(
            f"--max-pixels {max_pixels}, --max-memory {max_memory!r}; expected numbers of pixels "
            "and bytes, such as 500M or 2G"
        )
    return ImageLimits(max_pixels=max_pixels, max_memory=num_bytes)


def parse_bytes(text: str) -> int:
    """Return a number of bytes written as 500M or 2G, with K, M and G of 1024; 0 if it is none."""
    found = re.fullmatch(r"([0-9]{1,15})([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    return int(found[1]) * _UNITS[found[2].upper()] if found else 0


def _bytes_per_pixel(image: Image.Image) -> int:
    num_bytes = _BYTES_PER_PIXEL.get(image.format or "", 8)
    if image.info.get("progressive") or image.info.get("progression"):
        num_bytes += _EXTRA_IF_PROGRESSIVE
    return num_bytes + (_EXTRA_IF_CONVERTED if image.mode != "RGB" else 0)


def _megabytes(num_bytes: int) -> str:
    return f"{max(1, num_bytes >> 20)} MB"
