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
from squeezenet.images.input_errors import (
    ACCEPTED,
    is_list_of_numbers,
    not_an_image,
    unusable_array,
)
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits

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


def rgb_pixels(
    image: ImageInput, name: str | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> Pixels:
    """Return an image as contiguous uint8 RGB pixels (H, W, 3).

    A Pillow image, a path, bytes and a file object go the same way: EXIF orientation, alpha over
    white, palettes, 16 bits and CMYK are treated alike. A file object is read to its end.
    ``name`` is what to call an image in a message that has no name of its own.

    Raises:
        ImageError: it cannot be read, or it is nothing of ``ACCEPTED``.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(_path(os.fspath(image)), limits=limits)
    if isinstance(image, Image.Image):
        return _from_pillow(image, name or "Pillow image", limits)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image(io.BytesIO(image), name or "image in memory", limits)
    if hasattr(image, "read"):
        own_name, content = read_open_file(image, name or "file object", ImageError)
        return read_image(io.BytesIO(content), own_name, limits)
    # PyTorch's tensors, too, have __array__; lists of numbers do not.
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
        return _from_array(image, name)
    raise not_an_image(image, name)


def over_images(
    image: ImageInput | list[Any] | tuple[Any, ...],
    function: Callable[[Pixels], T],
    limits: ImageLimits = DEFAULT_LIMITS,
) -> T | list[T]:
    """Return ``function`` of an image's RGB pixels; of a list or tuple of images, a list.

    Raises:
        ImageError: see ``rgb_pixels``.
    """
    if is_list_of_numbers(image):
        raise not_an_image(image, None)
    if isinstance(image, list | tuple):
        return [
            function(rgb_pixels(each, f"image {index} of the list", limits))
            for index, each in enumerate(image)
        ]
    return function(rgb_pixels(image, limits=limits))


def _path(name: str | bytes) -> Path:
    name = os.fsdecode(name)
    if not name:
        raise ImageError("image: found an empty name, expected the path of an image file")
    if name.startswith(("http://", "https://")):
        raise ImageError(f"{name}: is a URL, expected the path of a file; download it first")
    return Path(name)


def _from_pillow(image: Image.Image, name: str, limits: ImageLimits) -> Pixels:
    file = getattr(image, "fp", None)  # the pixels that ``tile`` lists are still to be read from it
    is_closed = bool(getattr(image, "tile", ())) and getattr(file, "closed", True)
    try:
        return to_pixels(rgb_from_pillow(image, name, limits))
    except ImageError as error:
        if not is_closed and "closed" not in str(error):
            raise
        raise ImageError(
            f"{name}: its file was closed before its pixels were read; call image.load() before "
            "that, or pass the path of the file"
        ) from None


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
        raise unusable_array(image, pixels, name)
    if is_grey:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels)
