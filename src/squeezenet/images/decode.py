"""An image file or Pillow image -> RGB pixels. The only module that reads images with Pillow.

Palette, grey, CMYK, 16-bit and EXIF-rotated images come out as a viewer shows them; alpha is
blended over white, as on a web page. Of an animated file the first frame is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from PIL import Image, UnidentifiedImageError

from squeezenet.errors import ImageError
from squeezenet.images.formats import (
    HEAD_BYTES,
    HEIC_ADVICE,
    RAW_ADVICE,
    is_heic,
    is_raw,
    reads_heic,
)
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
"""The formats that Pillow may open, and HEIF where pillow-heif is installed. Others are refused:
Pillow would start Ghostscript for EPS."""
_JPEG = b"\xff\xd8\xff"
"""The first bytes of every JPEG file: start of image, and the start of the next marker."""
_JPEG_END = b"\xff\xd9"
_NOISE_BYTES = 2048
"""More than the largest block of a JPEG takes."""
_STRIP_PIXELS = 1 << 20
"""Pixels that are converted at a time; what a conversion needs besides is a few megabytes."""


class IncompleteImageWarning(UserWarning):
    """An image was read although a part of its file is missing that holds no pixels."""


def read_image(
    source: Path | BinaryIO,
    name: str | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    min_side: int | None = None,
) -> Pixels:
    """Read one image as uint8 RGB of shape (height, width, 3).

    ``name`` is the image's name in errors (default: the path). With ``min_side``, a large JPEG is
    decoded at 1/2, 1/4 or 1/8 of its size: the smallest at which its short side still has
    ``min_side`` pixels. Warns with ``IncompleteImageWarning`` of a JPEG that lacks its end marker.

    Raises:
        ImageError: the file is missing, too large or not a readable image.
    """
    return to_pixels(read_rgb(source, name, limits, min_side=min_side))


def to_pixels(rgb: Image.Image) -> Pixels:
    """Return the pixels of an RGB image as uint8 (height, width, 3), copied in strips.

    ``np.asarray`` of a whole image holds them three times.
    """
    import numpy as np

    pixels_HWC = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for top, bottom in _strips(rgb):
        is_whole = bottom - top == rgb.height
        pixels_HWC[top:bottom] = np.asarray(
            rgb if is_whole else rgb.crop((0, top, rgb.width, bottom))
        )
    return pixels_HWC


def read_rgb(
    source: Path | BinaryIO,
    name: str | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    min_side: int | None = None,
) -> Image.Image:
    """Read one image as a Pillow image in RGB, without importing NumPy.

    Arguments and warnings are those of ``read_image``.

    Raises:
        ImageError: the file is missing, too large or not a readable image.
    """
    name = name or str(source)
    if not isinstance(source, Path):
        return _read(source, name, limits, min_side)
    if source.exists() and not source.is_file():
        raise ImageError(f"{name}: not a regular file")
    if is_raw(source):
        raise ImageError(f"{name}: {RAW_ADVICE}")
    with _one_line_errors(name):
        file = source.open("rb")
    with file:
        return _read(file, name, limits, min_side)


def rgb_from_pillow(
    image: Image.Image, name: str = "Pillow image", limits: ImageLimits = DEFAULT_LIMITS
) -> Image.Image:
    """Convert a Pillow image to RGB exactly as ``read_rgb`` does for its file.

    The frame that an animation is at counts. ``image`` itself stays as it is, but is loaded.

    Raises:
        ImageError: its file is damaged or closed, or it is too large.
    """
    with _one_line_errors(name):
        limits.check(image, name)
        file_name = getattr(image, "filename", "")
        if image.format == "TIFF" and getattr(image, "tile", None) and file_name:
            # Not loaded yet. Pillow would map the file into memory, and mix up its rows if it is
            # turned by 90 degrees (Pillow 13.0). A file object is not mapped.
            with Path(file_name).open("rb") as file, Image.open(file) as again:
                again.seek(image.tell())
                again.load()
                return _shown(again)
        image.load()
        return _shown(image)


def _read(file: BinaryIO, name: str, limits: ImageLimits, min_side: int | None) -> Image.Image:
    start = file.tell()
    with _one_line_errors(name), _open(file) as image:
        limits.check(image, name)
        if min_side is not None:
            _decode_smaller(image, min_side)
        complete = _load(image, file, start)
        rgb = _shown(complete)
    if complete is not image:
        message = f"{name}: the JPEG's end marker is missing, all of its pixels are there"
        warnings.warn(message, IncompleteImageWarning, stacklevel=3)
    return rgb


def _decode_smaller(image: Image.Image, min_side: int) -> None:
    """Let libjpeg compute a JPEG at 1/2, 1/4 or 1/8 of its size, which takes less of its time.

    Images with a short side of less than twice ``min_side`` are left as they are.
    """
    assert min_side >= 1
    if image.format == "JPEG" and min(image.size) >= 2 * min_side:
        image.draft(None, (min_side, min_side))  # None keeps the mode


def _load(image: Image.Image, file: BinaryIO, start: int) -> Image.Image:
    """Decode the pixels; return the image, or what replaces a JPEG that lacks its end marker."""
    try:
        image.load()
    except OSError:
        if image.format != "JPEG":
            raise
        file.seek(start)
        complete = _with_end_marker(file.read())
        if complete is None:
            raise
        return complete
    return image


def _with_end_marker(content: bytes) -> Image.Image | None:
    """Return the image of a JPEG that lacks only its end marker; None if pixels are missing.

    libjpeg takes zeros for data that is missing. So the file is decoded twice, once with random
    bytes before the end marker. Where something is missing they are decoded, else they are left
    over and change nothing. The result has full size: at a smaller one, fine detail that is
    missing would not show.
    """
    noise = random.Random(0).randbytes(_NOISE_BYTES).replace(b"\xff", b"\x7f")
    images = []
    for rest in (b"", noise):
        image = Image.open(io.BytesIO(content.rstrip(b"\xff") + rest + _JPEG_END), formats=["JPEG"])
        try:
            image.load()
        except OSError:
            return None
        images.append(image)
    return images[0] if _digest(images[0]) == _digest(images[1]) else None


def _digest(image: Image.Image) -> bytes:
    """Return a hash of the pixels, taken in strips."""
    digest = hashlib.sha256()
    for top, bottom in _strips(image):
        digest.update(image.crop((0, top, image.width, bottom)).tobytes())
    return digest.digest()


def _shown(image: Image.Image) -> Image.Image:
    """Return a decoded image in RGB as a viewer shows it."""
    transposed = _TRANSPOSED_BY_ORIENTATION.get(image.getexif().get(_ORIENTATION, 1))
    rgb = _to_rgb(image)
    return rgb if transposed is None else rgb.transpose(transposed)


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
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too many pixels for Pillow ({error})") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except Exception as error:
        # Pillow's plugins raise many kinds of errors on damaged input (SyntaxError, struct.error,
        # OSError, ...); they all mean the same to a user.
        if isinstance(error, UnidentifiedImageError):
            raise ImageError(f"{name}: not a readable image ({error})") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: not a readable image ({reason})") from None


def is_image(path: Path) -> bool:
    """Whether ``path`` is a file with the header of an image."""
    if not path.is_file():
        return False
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            with _open(file):
                return True
    except Exception:  # as in read_image
        return False


def _open(file: BinaryIO) -> Image.Image:
    """Open an image from where the file stands; its pixels are not read yet."""
    start = file.tell()
    head = file.read(HEAD_BYTES)
    file.seek(start)
    if head.startswith(_JPEG) and (jpeg := _open_jpeg(file)):
        return jpeg
    Image.preinit()  # the five most common formats; importing all takes longer than inference
    with contextlib.suppress(UnidentifiedImageError):
        return Image.open(file, formats=_formats())
    Image.init()
    formats = _formats()
    if is_heic(head):
        if not reads_heic():
            raise UnidentifiedImageError(f"HEIC, {HEIC_ADVICE}")
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
        formats.append("HEIF")
    file.seek(start)
    with contextlib.suppress(UnidentifiedImageError):
        return Image.open(file, formats=formats)
    raise UnidentifiedImageError("unknown format")


def _open_jpeg(file: BinaryIO) -> Image.Image | None:
    """Open a JPEG without importing Pillow's other formats; None if Pillow refuses its header.

    This saves a tenth of the time of ``squeezenet predict`` on one photograph.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    start = file.tell()
    try:
        return JpegImageFile(file)
    except (SyntaxError, IndexError, TypeError, struct.error):  # as Image.open treats a plugin
        file.seek(start)
        return None


def _formats() -> list[str]:
    return [name for name in FORMATS if name in Image.OPEN]


_ORIENTATION = 0x0112
"""The EXIF tag."""
_TRANSPOSED_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation (EXIF 2.32, tag Orientation)."""


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB in strips: a conversion of all pixels at once takes several copies of them."""
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode == "RGB" and not has_alpha:
        return image
    convert: Callable[[Image.Image], Image.Image]
    convert = _opaque_strip if has_alpha else _plain_strip
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        convert = _deep_grey_strip(image)
    rgb = Image.new("RGB", image.size)
    for top, bottom in _strips(image):
        rgb.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return rgb


def _strips(image: Image.Image) -> Iterator[tuple[int, int]]:
    """Yield the first row, and the row after the last, of each strip of ``_STRIP_PIXELS``."""
    rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, min(top + rows, image.height)


def _plain_strip(strip: Image.Image) -> Image.Image:
    return strip.convert("RGB")


def _opaque_strip(strip: Image.Image) -> Image.Image:
    rgba = strip.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _deep_grey_strip(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what converts strips of deep grey: floats are in 0..1 or in 0..255.

    16 bits are divided by 257, as are whole numbers of 32 bits if one of them is over 255.
    """
    import numpy as np

    highest = image.getextrema()[1]
    assert isinstance(highest, int | float)
    if image.mode == "F":
        scale = 255.0 if highest <= 1.0 else 1.0
    else:
        scale = 1 / 257 if highest > 255 or image.mode != "I" else 1.0

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("has NaN or infinite values, expected finite grey values")
        grey = np.clip(np.round(values * scale), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")

    return convert
