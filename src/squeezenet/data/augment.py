"""Data augmentation: random crops and flips per image, everything else per batch.

Every draw comes from a generator that is seeded by the run's seed and the position of the image or
batch in the run. So a resumed run sees the same pixels as an uninterrupted one.
Legend: N images, C channels, H W height and width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.errors import SpecError
from squeezenet.images.decode import Pixels
from squeezenet.images.preprocess import order_channels
from squeezenet.images.resize import resize


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are augmented.

    ``crop``: "random_resized" cuts a rectangle of ``min_area`` to 1 of the image's area, with an
    aspect ratio of at most ``max_aspect`` relative to the input's, and resizes it to the input
    size. "random" resizes the short side to ``zoom`` times the input size, pads by ``padding``
    pixels of the mean colour, and cuts a window of the input size.
    ``flip``: mirror each image in every other epoch. Any two epochs in a row then show both
    versions of an image, which independent draws do not guarantee (K. Jordan, "94% on CIFAR-10 in
    3.29 seconds on a single GPU", 2024).
    ``colour``: max relative change of brightness, contrast and saturation.
    ``cutout``: side of the square that is blanked, as a fraction of the input's side.
    ``mix``: fraction of a batch's images that are blended with other images of the batch (mixup,
    arXiv 1710.09412); for losses without labels.
    """

    crop: Literal["random_resized", "random"] = "random_resized"
    min_area: float = 0.35
    max_aspect: float = 4 / 3
    zoom: float = 1.0
    padding: int = 0
    flip: bool = True
    colour: float = 0.2
    cutout: float = 0.0
    mix: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1 or not self.max_aspect >= 1 or not self.zoom >= 1:
            raise SpecError(
                f"augmentation: min_area {self.min_area}, max_aspect {self.max_aspect}, zoom "
                f"{self.zoom}; expected 0 < min_area <= 1, max_aspect >= 1, zoom >= 1"
            )
        if not 0 <= self.mix <= 1:
            raise SpecError(f"augmentation: mix {self.mix}, expected 0 <= mix <= 1")
        if not 0 <= self.colour < 1 or not 0 <= self.cutout < 1 or self.padding < 0:
            raise SpecError(
                f"augmentation: colour {self.colour}, cutout {self.cutout}, padding "
                f"{self.padding}; expected 0 <= colour, cutout < 1 and padding >= 0"
            )


def random_crop(
    pixels_HWC: Pixels,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    rng: np.random.Generator,
) -> Pixels:
    """Cut a random crop of RGB pixels, in the record's crop size and channels: uint8 (H, W, C).

    The caller, who knows the epoch, does the flip.
    """
    if augmentation.crop == "random_resized":
        top, left, height, width = _random_rectangle(
            pixels_HWC.shape, augmentation, preprocessing, rng
        )
        crop_HWC = pixels_HWC[top : top + height, left : left + width]
        return order_channels(resize(crop_HWC, *preprocessing.crop), preprocessing)
    rows, columns = pixels_HWC.shape[:2]
    scale = max(preprocessing.crop[0] / rows, preprocessing.crop[1] / columns) * augmentation.zoom
    height = max(preprocessing.crop[0], round(rows * scale))
    width = max(preprocessing.crop[1], round(columns * scale))
    # The window in the resized image; with padding it may begin or end outside of the image.
    pad = augmentation.padding
    top = int(rng.integers(-pad, height + pad - preprocessing.crop[0] + 1))
    left = int(rng.integers(-pad, width + pad - preprocessing.crop[1] + 1))
    inner_top, inner_left = max(0, top), max(0, left)
    rows_inside = min(height, top + preprocessing.crop[0]) - inner_top
    columns_inside = min(width, left + preprocessing.crop[1]) - inner_left
    out = np.empty((*preprocessing.crop, preprocessing.num_channels), np.uint8)
    out[:] = np.round(preprocessing.mean)
    if rows_inside > 0 and columns_inside > 0:
        window = (inner_top, inner_left, rows_inside, columns_inside)
        image = order_channels(resize(pixels_HWC, height, width, window), preprocessing)
        inside = (
            slice(inner_top - top, inner_top - top + rows_inside),
            slice(inner_left - left, inner_left - left + columns_inside),
        )
        out[inside] = image
    return out


def _random_rectangle(
    shape: tuple[int, ...], augmentation: Augmentation, preprocessing: Preprocessing,
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Top, left, height, width of a random rectangle; after 10 misfits, the largest central one."""
    rows, columns = shape[:2]
    target = preprocessing.crop[1] / preprocessing.crop[0]
    spread = math.log(augmentation.max_aspect)
    for _ in range(10):
        area = rows * columns * rng.uniform(augmentation.min_area, 1.0)
        aspect = target * math.exp(rng.uniform(-spread, spread))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            top = int(rng.integers(rows - height + 1))
            left = int(rng.integers(columns - width + 1))
            return top, left, height, width
    width = max(1, min(columns, round(rows * target)))
    height = max(1, min(rows, round(columns / target)))
    return (rows - height) // 2, (columns - width) // 2, height, width


def augment_batch(
    pixels_NHWC: torch.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: int,
    *,
    positions: torch.Tensor | None = None,
    num_positions: int | None = None,
) -> torch.Tensor:
    """Jitter colours, normalise, cut out and mix: uint8 (N, H, W, C) -> float32 (N, C, H, W).

    ``positions`` (int64) are the images' places in a batch of ``num_positions`` of which they are a
    part: each image then gets what it would get in the whole batch. But ``mix`` blends images of
    this part only. The result is on the input's device, in channels-last memory order.
    """
    generator = torch.Generator().manual_seed(seed)
    device = pixels_NHWC.device
    num, height, width, channels = pixels_NHWC.shape
    num_drawn = num if num_positions is None else num_positions

    def draw(low: float, high: float) -> torch.Tensor:
        values = torch.rand(num_drawn, generator=generator) * (high - low) + low
        if positions is not None:
            values = values[positions]
        return values.to(device)[:, None, None, None]

    x = pixels_NHWC.to(torch.float32)
    if augmentation.colour:
        low, high = 1 - augmentation.colour, 1 + augmentation.colour
        x = x * draw(low, high)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = mean + (x - mean) * draw(low, high)
        if channels == 3:
            grey = x.mean(dim=3, keepdim=True)
            x = grey + (x - grey) * draw(low, high)
        x = x.clamp(0, 255)
    mean = torch.tensor(preprocessing.mean, device=device)
    std = torch.tensor(preprocessing.std, device=device)
    x = (x - mean) / std
    if augmentation.cutout:
        half = augmentation.cutout / 2
        rows = (torch.arange(height, device=device) + 0.5)[None, :, None, None] / height
        columns = (torch.arange(width, device=device) + 0.5)[None, None, :, None] / width
        inside = ((rows - draw(0, 1)).abs() < half) & ((columns - draw(0, 1)).abs() < half)
        x = x.masked_fill(inside, 0.0)
    if augmentation.mix:
        # The weight is uniform in 0..1: either image may dominate the blend.
        weight = torch.where(draw(0, 1) < augmentation.mix, draw(0, 1), 0.0)
        others = torch.randperm(num, generator=generator).to(device)
        x = torch.lerp(x, x[others], weight)
    return x.permute(0, 3, 1, 2)


def shrink(x_NCHW: torch.Tensor, scale: float) -> torch.Tensor:
    """Resize images to ``scale`` times their height and width, rounded up."""
    size = [math.ceil(side * scale) for side in x_NCHW.shape[2:]]
    small = functional.interpolate(x_NCHW, size=size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)
