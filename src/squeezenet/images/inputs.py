"""Whatever a Python program has as an image -> RGB pixels; the same ones, whatever it has.

Legend: H W height and width of an image.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from squeezenet.errors import ImageError
from squeezenet.files import read_open_file
from squeezenet.images.decode import Pixels, read_image, rgb_from_pillow, to_pixels

T = TypeVar("T")
ImageInput: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
    | Image.Image
    | npt.NDArray[np.uint8]
)
"""A path, an image file's bytes, a file object open for reading bytes, a Pillow image, or pixels:
uint8 (H, W, 3) in RGB or (H, W) in grey."""

ACCEPTED = (
    "a path, bytes or a file object of an image file, a Pillow image, "
    "or a uint8 array (H, W, 3) or (H, W)"
)
"""``ImageInput`` in words, for messages."""


def rgb_pixels(image: ImageInput, name: str | None = None) -> Pixels:
    """Return an image as contiguous uint8 RGB pixels (H, W, 3).

    A Pillow image, a path, bytes and a file object go the same way: EXIF orientation, alpha over
    white, palettes, 16 bits and CMYK are treated alike. A file object is read to its end.
    ``name`` is what to call an image in a message that has no name of its own.

    Raises:
        ImageError: it cannot be read, or it is nothing of ``ACCEPTED``.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_pixels(rgb_from_pillow(image, name or "Pillow image"))
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image(io.BytesIO(image), name or "image in memory")
    if hasattr(image, "read"):
        own_name, content = read_open_file(image, name or "file object", ImageError)
        return read_image(io.BytesIO(content), own_name)
    # PyTorch's tensors, too, have __array__; lists of numbers do not.
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
        return _from_array(image, name)
    raise ImageError(f"{name or 'image'}: found {type(image).__name__}, expected {ACCEPTED}")


def over_images(
    image: ImageInput | list[Any] | tuple[Any, ...], function: Callable[[Pixels], T]
) -> T | list[T]:
    """Return ``function`` of an image's RGB pixels; of a list or tuple of images, a list.

    Raises:
        ImageError: see ``rgb_pixels``.
    """
    if isinstance(image, list | tuple):
        return [
            function(rgb_pixels(each, f"image {index} of the list"))
            for index, each in enumerate(image)
        ]
    return function(rgb_pixels(image))


def _from_array(image: Any, name: str | None) -> Pixels:
    try:
        pixels = np.asarray(image)
    except Exception as error:  # whatever a foreign __array__ raises, as for a tensor on a GPU
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(
            f"{name or 'image'}: found {type(image).__name__} ({reason}), expected {ACCEPTED}"
        ) from None
    is_grey = pixels.ndim == 2
    is_rgb = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (is_grey or is_rgb) or not pixels.size:
        hint = "; pass list(array) for a batch" if pixels.ndim == 4 else ""
        raise ImageError(
            f"{name or 'image'}: found an array of {pixels.dtype} {pixels.shape}, "
            f"expected {ACCEPTED}{hint}"
        )
    if is_grey:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels)
