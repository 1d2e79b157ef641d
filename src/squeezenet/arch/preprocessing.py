"""How a picture becomes a network's input. Stored in every model file.

Pixels are 0..255; mean and std are in the same unit. A channel's value is (pixel - mean) / std.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from squeezenet.arch.spec import MAX_INPUT_SIZE, NetworkSpec
from squeezenet.errors import SpecError

ChannelOrder = Literal["RGB", "BGR", "L"]
_MAX_UNCROPPED = 64
"""Inputs of up to 64 pixels are used whole: digits and CIFAR-10 have no margin to crop."""


_MAX_MAGNITUDE = 1e6
_MIN_STD = 1e-6
"""Bounds of mean and std: spec/FORMAT.md, "RECORD"."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The steps from a picture to a network's input, in order.

    Resize the short side to ``resize`` pixels. Crop the centre to ``crop`` (height, width). Take
    the channels in the order ``channels`` ("L": luma alone). Subtract ``mean``, then divide by
    ``std``; both have one value per channel, in pixel levels 0..255.

    Raises:
        SpecError: a value is out of range, or the number of values is not that of the channels.
    """

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
                f"preprocessing: crop {self.crop} with a short side of {self.resize} pixels, "
                "expected two sides that fit inside"
            )
        if self.channels not in ("RGB", "BGR", "L"):
            raise SpecError(f"preprocessing: channels {self.channels!r}, expected RGB, BGR or L")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.num_channels or not all(map(math.isfinite, values)):
                raise SpecError(
                    f"preprocessing: {name} is {values}, expected {self.num_channels} numbers"
                )
        if not all(_MIN_STD <= value <= _MAX_MAGNITUDE for value in self.std):
            raise SpecError(
                f"preprocessing: std is {self.std}, expected positive values "
                f"({_MIN_STD:g}..{_MAX_MAGNITUDE:g})"
            )
        if not all(abs(value) <= _MAX_MAGNITUDE for value in self.mean):
            raise SpecError(
                f"preprocessing: mean is {self.mean}, expected values within {_MAX_MAGNITUDE:g}"
            )

    @property
    def num_channels(self) -> int:
        return 1 if self.channels == "L" else 3


def with_crop(preprocessing: Preprocessing, crop: tuple[int, int]) -> Preprocessing:
    """Return the preprocessing for another input (height, width), with the same margin around it.

    Raises:
        SpecError: a value is out of range.
    """
    if crop == preprocessing.crop:
        return preprocessing
    margin = preprocessing.resize / max(preprocessing.crop)
    return dataclasses.replace(
        preprocessing, crop=crop, resize=max(*crop, round(max(crop) * margin))
    )


def torchvision_preprocessing(
    *, resize: int = 256, crop: tuple[int, int] = (224, 224)
) -> Preprocessing:
    """Return the preprocessing of torchvision's ImageNet weights: RGB, its means and stds."""
    return Preprocessing(
        resize=resize,
        crop=crop,
        channels="RGB",
        mean=tuple(255 * value for value in (0.485, 0.456, 0.406)),
        std=tuple(255 * value for value in (0.229, 0.224, 0.225)),
    )


def caffe_preprocessing(*, size: int = 227) -> Preprocessing:
    """Return the preprocessing of the authors' Caffe weights: BGR, means subtracted, no scaling.

    The means are those of the authors' train_val.prototxt.
    """
    return Preprocessing(
        resize=size,
        crop=(size, size),
        channels="BGR",
        mean=(104.0, 117.0, 123.0),
        std=(1.0, 1.0, 1.0),
    )


def default_preprocessing(spec: NetworkSpec) -> Preprocessing:
    """Return the preprocessing of a network that we train: luma for one channel, RGB for three.

    Above 64 pixels the short side is resized to 8/7 of the crop, as torchvision does (256 for
    224). Smaller images are used whole.

    Raises:
        SpecError: the network has another number of input channels.
    """
    crop = spec.input_size
    resize = max(crop) if max(crop) <= _MAX_UNCROPPED else round(max(crop) * 256 / 224)
    if spec.input_channels == 1:
        return Preprocessing(resize=resize, crop=crop, channels="L", mean=(127.5,), std=(127.5,))
    if spec.input_channels != 3:
        raise SpecError(
            f"{spec.name}: {spec.input_channels} input channels, expected 1 (grey) or 3 (RGB)"
        )
    return torchvision_preprocessing(resize=resize, crop=crop)
