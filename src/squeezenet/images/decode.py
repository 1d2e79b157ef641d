"""An image file or Pillow image -> RGB pixels. The only module that reads images with Pillow.

Palette, grey, CMYK, 16-bit and EXIF-rotated images come out as a viewer shows them; alpha is
blended over white, as on a web page. Of an animated file the first frame is used.
"""

from __future__ import annotations

import contextlib
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from PIL import Image, ImageOps, UnidentifiedImageError

from squeezenet.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
"""The formats that Pillow may open. Others are refused: Pillow would start Ghostscript for EPS."""
_JPEG = b"\xff\xd8\xff"
"""The first bytes of every JPEG file: start of image, and the start of the next marker."""
MAX_PIXELS = 1 << 27
"""Largest image, in pixels: 134 megapixels take 400 MB decoded."""


def read_image(source: Path | BinaryIO, name: str | None = None) -> Pixels:
    """Read one image as uint8 RGB of shape (height, width, 3).

    ``name`` is the image's name in errors (default: the path).

    Raises:
        ImageError: the file is missing, too large or not a readable image.
    """
    import numpy as np

    return np.asarray(read_rgb(source, name))


def read_rgb(source: Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Read one image as a Pillow image in RGB, without importing NumPy.

    ``name`` is the image's name in errors (default: the path).

    Raises:
        ImageError: the file is missing, too large or not a readable image.
    """
    name = name or str(source)
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ImageError(f"{name}: not a regular file")
    with _one_line_errors(name), _open(source) as image:
        return _shown(image, name)


def rgb_from_pillow(image: Image.Image, name: str = "Pillow image") -> Image.Image:
    """Convert a Pillow image to RGB exactly as ``read_rgb`` does for its file.

    The frame that an animation is at counts. ``image`` itself stays as it is, but is loaded.

    Raises:
        ImageError: its file is damaged or closed, or it is too large.
    """
    with _one_line_errors(name):
        return _shown(image, name)


def _shown(image: Image.Image, name: str) -> Image.Image:
    """The image in RGB as a viewer shows it; refuses its size before its pixels are decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {image.width}x{image.height} pixels, expected at most {MAX_PIXELS}"
        )
    image.load()
    return _to_rgb(ImageOps.exif_transpose(image))


@contextlib.contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError that begins with ``name``."""
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images and odd metadata; our own limit decides.
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except Exception as error:
        # Pillow's plugins raise many kinds of errors on damaged input (SyntaxError, struct.error,
        # OSError, ...); they all mean the same to a user.
        if isinstance(error, UnidentifiedImageError):
            raise ImageError(f"{name}: not a readable image (unknown format)") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: not a readable image ({reason})") from None


def is_image(path: Path) -> bool:
    """Whether ``path`` is a file with the header of an image."""
    if not path.is_file():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(path):
                return True
    except Exception:  # as in read_image
        return False


def _open(source: Path | BinaryIO) -> Image.Image:
    jpeg = _open_jpeg(source)
    if jpeg is not None:
        return jpeg
    Image.preinit()  # the five most common formats; importing all takes longer than inference
    try:
        return Image.open(source, formats=_formats())
    except UnidentifiedImageError:
        if not isinstance(source, Path):
            source.seek(0)
    Image.init()
    return Image.open(source, formats=_formats())


def _open_jpeg(source: Path | BinaryIO) -> Image.Image | None:
    """Open a JPEG without importing Pillow's other formats; return None for any other file.

    This saves a tenth of the time of ``squeezenet predict`` on one photograph.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(len(_JPEG))
    else:
        head = source.read(len(_JPEG))
        source.seek(0)
    if head != _JPEG:
        return None
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        return JpegImageFile(source)
    except (SyntaxError, IndexError, TypeError, struct.error):  # as Image.open treats a plugin
        if not isinstance(source, Path):
            source.seek(0)
        return None


def _formats() -> list[str]:
    return [name for name in FORMATS if name in Image.OPEN]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Convert deep grey: 16 bits are divided by 257; floats are in 0..1 or in 0..255."""
    import numpy as np

    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("has NaN or infinite values, expected finite grey values")
    if image.mode == "F":
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
    else:
        scale = 1 / 257 if values.max(initial=0.0) > 255 or image.mode != "I" else 1.0
    grey = np.clip(np.round(values * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
