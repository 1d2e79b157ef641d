"""What is wrong with a value that is no image, in words, and how to convert it.

Legend: H W height and width of an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeezenet.errors import ImageError

ACCEPTED = (
    "a path, bytes or a file object of an image file, a Pillow image, "
    "or a uint8 array (H, W, 3) or (H, W)"
)
"""What ``images.inputs`` takes, for messages."""
_WITH_ALPHA = "four channels, as RGBA"
_PIXELS = "pixels as uint8 0 to 255, (H, W, 3) in RGB or (H, W) in grey"


def not_an_image(value: object, name: str | None) -> ImageError:
    """Return the error for a value that is neither an image nor an array."""
    hint = ""
    if value is None:
        found, hint = "None", "; OpenCV's imread returns None for a file that it cannot read"
    elif isinstance(value, bool | int | float | complex):
        found = f"the number {value}"
    elif isinstance(value, list | tuple):
        found = "a list of numbers" if _has_numbers(value) else f"a {type(value).__name__}"
        if _has_numbers(value):
            hint = "; convert pixels: numpy.array(pixels, 'uint8')"
    else:
        kind = type(value).__name__
        found = f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"
        if hasattr(value, "__iter__") and not isinstance(value, dict):
            hint = "; pass list(images) for several images"
    return ImageError(f"{name or 'image'}: found {found}, expected {ACCEPTED}{hint}")


def is_list_of_numbers(value: object) -> bool:
    """Whether a list is meant as pixels, nested or not, rather than as several images."""
    return isinstance(value, list | tuple) and _has_numbers(value)


def unusable_array(value: object, pixels: npt.NDArray[Any], name: str | None) -> ImageError:
    """Return the error for an array, or what gave one, whose values or shape are not an image's."""
    is_tensor = type(value).__module__.partition(".")[0] == "torch"
    own = "tensor.detach().cpu().numpy()" if is_tensor else "array"
    ordered, shape = _shape(pixels, own)
    converted, values = _values(pixels, ordered)
    if converted and pixels.ndim == 4:
        converted = f"list({converted})"
    elif converted and shape == _WITH_ALPHA:  # shown over white, as from a file
        converted = f"PIL.Image.fromarray({converted})"
    kind = f"{pixels.dtype.newbyteorder('=')} {pixels.shape}"
    found = " and ".join(filter(None, [values, shape]))
    advice = f"; convert it: {converted}" if converted else ""
    if advice and pixels.ndim == 4:
        advice = f"; pass {converted} for a batch"
    return ImageError(f"{name or 'image'}: found {found} ({kind}), expected {_PIXELS}{advice}")


def _has_numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    first: Any = values
    for _ in range(4):  # rows, pixels, channels, and a batch of them
        if not isinstance(first, list | tuple) or not first:
            break
        first = first[0]
    return isinstance(first, int | float | np.number)


def _shape(pixels: npt.NDArray[Any], code: str) -> tuple[str, str]:
    """Return the code that mends the order of the axes, "" if none can, and what is wrong."""
    shape = pixels.shape
    if not pixels.size:
        return "", "no pixels"
    if len(shape) == 4:
        if shape[1] == 3 != shape[3]:
            code = f"{code}.transpose(0, 2, 3, 1)"
            return code, f"a batch of {shape[0]} with channels first"
        return code, f"a batch of {shape[0]}"
    if len(shape) == 3 and shape[2] != 3:
        if shape[0] == 3:
            return f"{code}.transpose(1, 2, 0)", "channels first"
        if shape[0] == 1:
            return f"{code}[0]", "one channel, first"
        if shape[2] == 1:
            return f"{code}[..., 0]", "one channel"
        if shape[2] == 4:
            return code, _WITH_ALPHA
        return "", f"{shape[2]} channels"
    if len(shape) in (2, 3):
        return code, ""
    return "", {0: "a single number", 1: "a row of numbers"}.get(
        len(shape), f"{len(shape)} dimensions"
    )


def _values(pixels: npt.NDArray[Any], code: str) -> tuple[str, str]:
    """Return ``code`` so that it mends the values too, "" if none can, and what is wrong."""
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8 or not pixels.size:
        return code, ""
    if kind not in "biuf":
        return "", "values that are no real numbers"
    if kind == "b":
        return code and f"{code} * numpy.uint8(255)", "true or false values"
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        return "", "NaN or infinite values"
    if kind == "f":
        rounded = ".round().astype('uint8')"
        if low >= 0 and high <= 1:
            return code and f"({code} * 255){rounded}", "floats in 0..1"
        if low >= 0 and high <= 255:
            return code and f"{code}{rounded}", "floats in 0..255"
        why = ", as after a normalisation, which the model does itself" if low < 0 else ""
        return "", f"floats from {low:.3g} to {high:.3g}{why}"
    if low >= 0 and high <= 255:
        return code and f"{code}.astype('uint8')", "integers of another type"
    if pixels.dtype.itemsize == 2 and low >= 0:
        return code and f"({code} // 257).astype('uint8')", f"16-bit integers up to {high:.0f}"
    return "", f"integers from {low:.0f} to {high:.0f}"
