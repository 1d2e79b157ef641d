"""The record that says how a picture becomes a network's input; it travels in every file.

Pixels are 0..255 and stay in that unit: a channel's value is (pixel - mean) / std.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from squeezenet.arch.spec import MAX_INPUT_SIZE, NetworkSpec
from squeezenet.errors import SpecError

ChannelOrder = Literal["RGB", "BGR", "L"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize the short side to ``resize`` pixels, cut ``crop`` (height, width) from the middle,
    take the channels in order ("L" is luma alone), subtract ``mean``, divide by ``std``
    (a value a channel, in pixel levels)."""

    resize: int
    crop: tuple[int, int]
    channels: ChannelOrder
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.resize <= MAX_INPUT_SIZE:
            raise SpecError(f"preprocessing: resize to {self.resize}, expected 1..{MAX_INPUT_SIZE}")
        if not all(1 <= side <= self.resize for side in self.crop) or len(self.crop) != 2:
            raise SpecError(
                f"preprocessing: crop {self.crop} of a short side of {self.resize} pixels, "
                "expected two sides that fit inside"
            )
        if self.channels not in ("RGB", "BGR", "L"):
            raise SpecError(f"preprocessing: channels {self.channels!r}, expected RGB, BGR or L")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.num_channels or not all(map(math.isfinite, values)):
                raise SpecError(
                    f"preprocessing: {name} is {values}, expected {self.num_channels} numbers"
                )
        if not all(1e-6 <= value <= 1e6 for value in self.std):
            raise SpecError(
                f"preprocessing: std is {self.std}, expected values above 0 (1e-6..1e6)"
            )
        if not all(abs(value) <= 1e6 for value in self.mean):
            raise SpecError(f"preprocessing: mean is {self.mean}, expected values within 1e6")

    @property
    def num_channels(self) -> int:
        return 1 if self.channels == "L" else 3


def torchvision_preprocessing(
    *, resize: int = 256, crop: tuple[int, int] = (224, 224)
) -> Preprocessing:
    """The preprocessing of torchvision's ImageNet weights."""
    return Preprocessing(
        resize=resize,
        crop=crop,
        channels="RGB",
        mean=tuple(255 * value for value in (0.485, 0.456, 0.406)),
        std=tuple(255 * value for value in (0.229, 0.224, 0.225)),
    )


def caffe_preprocessing(*, size: int = 227) -> Preprocessing:
    """The preprocessing of the authors' Caffe weights: BGR, means subtracted, no scaling."""
    return Preprocessing(
        resize=size,
        crop=(size, size),
        channels="BGR",
        mean=(104.0, 117.0, 123.0),
        std=(1.0, 1.0, 1.0),
    )


def default_preprocessing(spec: NetworkSpec) -> Preprocessing:
    """The preprocessing of a network that we train: luma for one input channel, RGB for three.

    Above 64 pixels an eighth of the short side stays outside of the crop, as torchvision has it.

    Raises:
        SpecError: the network takes another number of channels.
    """
    crop = spec.input_size
    resize = max(crop) if max(crop) <= 64 else round(max(crop) * 256 / 224)
    if spec.input_channels == 1:
        return Preprocessing(resize=resize, crop=crop, channels="L", mean=(127.5,), std=(127.5,))
    if spec.input_channels != 3:
        raise SpecError(
            f"{spec.name}: {spec.input_channels} input channels; images have 1 (grey) or 3 (RGB)"
        )
    return torchvision_preprocessing(resize=resize, crop=crop)
