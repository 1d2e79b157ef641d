"""Pixels -> a network's input, exactly as the model's preprocessing says.

Legend: N images, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.images.decode import Pixels
from squeezenet.images.resize import resize

Float32Array: TypeAlias = npt.NDArray[np.float32]


def crop_pixels(pixels_HWC: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Resize RGB pixels (H, W, 3), crop the centre, convert the channels: uint8 (H, W, C).

    The short side becomes ``preprocessing.resize``; the long side long * resize / short, rounded
    half up (spec/INTEGER.md, "From a picture to pixels").
    """
    rows, columns = pixels_HWC.shape[:2]
    short = min(rows, columns)
    height, width = (
        (2 * side * preprocessing.resize + short) // (2 * short) for side in (rows, columns)
    )
    top, left = (height - preprocessing.crop[0]) // 2, (width - preprocessing.crop[1]) // 2
    crop_HWC = resize(pixels_HWC, height, width, (top, left, *preprocessing.crop))
    return np.ascontiguousarray(order_channels(crop_HWC, preprocessing))


def order_channels(pixels_HWC: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Convert RGB to the preprocessing's channels.

    Luma is ITU-R BT.601's: (19595 R + 38470 G + 7471 B + 2^15) >> 16.
    """
    if preprocessing.channels == "RGB":
        return pixels_HWC
    if preprocessing.channels == "BGR":
        return pixels_HWC[..., ::-1]
    luma = pixels_HWC.astype(np.int32) @ np.array([19595, 38470, 7471], np.int32)
    return ((luma + (1 << 15)) >> 16).astype(np.uint8)[..., None]


def normalise(pixels_NHWC: Pixels, preprocessing: Preprocessing) -> Float32Array:
    """Convert cropped uint8 pixels (N, H, W, C) to float32 input (N, C, H, W)."""
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    x_NHWC = (pixels_NHWC.astype(np.float32) - mean) / std
    return np.ascontiguousarray(x_NHWC.transpose(0, 3, 1, 2))


def from_pixels(
    network: Callable[[Float32Array], Float32Array], preprocessing: Preprocessing
) -> Callable[[Pixels], Float32Array]:
    """Wrap a function of normalised input (N, C, H, W) as one of cropped pixels (N, H, W, C)."""
    return lambda pixels_NHWC: network(normalise(pixels_NHWC, preprocessing))
