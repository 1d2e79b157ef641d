"""Networks by name.

Shapes are from the SqueezeNet paper's table 1, v1.1's release and Caffe's AlexNet; the ``tiny``
and ``cifar`` networks are ours. Names and geometry of the two ImageNet networks are torchvision's
(224 pixels, conv10 without padding). ``caffe_squeezenet1_0`` has the authors' geometry, as Han's
published file does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from squeezenet.arch.spec import (
    AlexNetSpec,
    ConvSpec,
    FireSpec,
    HeadSpec,
    NetworkSpec,
    PoolSpec,
    SqueezeNetSpec,
    small_input,
    with_bypass,
)
from squeezenet.errors import UnknownNameError

_PAPER_FIRES = tuple(
    FireSpec(s1x1=s1x1, e1x1=expand, e3x3=expand)
    for s1x1, expand in ((16, 64), (32, 128), (48, 192), (64, 256))
    for _ in range(2)
)


def _pools(*places: str) -> tuple[PoolSpec, ...]:
    return tuple(PoolSpec(after=place) for place in places)


def squeezenet1_0() -> SqueezeNetSpec:
    """v1.0: table 1 of the paper."""
    return SqueezeNetSpec(
        name="squeezenet1_0",
        stem=ConvSpec(out_channels=96, kernel=7, stride=2),
        fires=_PAPER_FIRES,
        pools=_pools("conv1", "fire4", "fire8"),
    )


def squeezenet1_1() -> SqueezeNetSpec:
    """v1.1: a smaller stem and earlier pools, 2.3 times fewer MACs than v1.0."""
    return SqueezeNetSpec(
        name="squeezenet1_1",
        stem=ConvSpec(out_channels=64, kernel=3, stride=2),
        fires=_PAPER_FIRES,
        pools=_pools("conv1", "fire3", "fire5"),
    )


def caffe_squeezenet1_0() -> SqueezeNetSpec:
    """v1.0 as the authors released it: 227 pixels, conv10 padded by 1, ReLU at the end."""
    return dataclasses.replace(
        squeezenet1_0(), input_size=(227, 227), head=HeadSpec(padding=1, last_relu=True)
    )


def squeezenet_tiny() -> SqueezeNetSpec:
    """A network for 8x8 grey images such as scikit-learn's digits."""
    return SqueezeNetSpec(
        name="squeezenet_tiny",
        stem=ConvSpec(out_channels=32, kernel=3, padding=1),
        fires=(
            FireSpec(s1x1=8, e1x1=16, e3x3=16, bypass="identity"),
            FireSpec(s1x1=8, e1x1=16, e3x3=16, bypass="identity"),
            FireSpec(s1x1=16, e1x1=32, e3x3=32),
            FireSpec(s1x1=16, e1x1=32, e3x3=32, bypass="identity"),
        ),
        pools=_pools("fire3"),
        head=HeadSpec(dropout=0.1),
        num_classes=10,
        input_channels=1,
        input_size=(8, 8),
        batch_norm=True,
    )


def squeezenet_cifar() -> SqueezeNetSpec:
    """A network for 32x32 colour images: the most accurate found for an hour on two CPU cores.

    Its modules have many 3x3 filters and wide squeeze layers. One module works at 32x32 positions,
    four at 8x8. Identity bypass wherever the channels match.
    """
    return with_bypass(
        SqueezeNetSpec(
            name="squeezenet_cifar",
            stem=ConvSpec(out_channels=32, kernel=3, padding=1),
            fires=tuple(
                FireSpec(s1x1=s1x1, e1x1=e1x1, e3x3=e3x3)
                for s1x1, e1x1, e3x3, times in (
                    (16, 32, 32, 1),
                    (40, 48, 128, 2),
                    (64, 64, 192, 3),
                    (64, 64, 256, 1),
                )
                for _ in range(times)
            ),
            pools=_pools("fire2", "fire4"),
            head=HeadSpec(dropout=0.0),
            num_classes=10,
            input_size=(32, 32),
            batch_norm=True,
        ),
        "simple",
    )


def alexnet_cifar() -> AlexNetSpec:
    """AlexNet for 32x32 images: five convolutions at stride 1, two hidden layers of 4096.

    Batch normalisation replaces LRN, so that the baseline has the same aids as our networks.
    """
    return AlexNetSpec(
        name="alexnet_cifar",
        convs=(
            ConvSpec(out_channels=64, kernel=5, padding=2),
            ConvSpec(out_channels=128, kernel=5, padding=2, groups=2),
            ConvSpec(out_channels=256, kernel=3, padding=1),
            ConvSpec(out_channels=256, kernel=3, padding=1, groups=2),
            ConvSpec(out_channels=256, kernel=3, padding=1, groups=2),
        ),
        pools=_pools("conv1", "conv2", "conv5"),
        hidden=(4096, 4096),
        num_classes=10,
        input_size=(32, 32),
        batch_norm=True,
    )


def alexnet() -> AlexNetSpec:
    """Caffe's AlexNet: 60,965,224 parameters, groups of 2 in conv2, 4 and 5."""
    return AlexNetSpec(
        name="alexnet",
        convs=(
            ConvSpec(out_channels=96, kernel=11, stride=4, lrn=True),
            ConvSpec(out_channels=256, kernel=5, padding=2, groups=2, lrn=True),
            ConvSpec(out_channels=384, kernel=3, padding=1),
            ConvSpec(out_channels=384, kernel=3, padding=1, groups=2),
            ConvSpec(out_channels=256, kernel=3, padding=1, groups=2),
        ),
        pools=_pools("conv1", "conv2", "conv5"),
        hidden=(4096, 4096),
    )


def _bypassed(make: Callable[[], SqueezeNetSpec], bypass: str) -> Callable[[], NetworkSpec]:
    def build() -> NetworkSpec:
        spec = with_bypass(make(), "simple" if bypass == "simple" else "complex")
        return dataclasses.replace(spec, name=f"{spec.name}_{bypass}_bypass")

    return build


PRESETS: dict[str, Callable[[], NetworkSpec]] = {
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_0_simple_bypass": _bypassed(squeezenet1_0, "simple"),
    "squeezenet1_0_complex_bypass": _bypassed(squeezenet1_0, "complex"),
    "squeezenet1_1": squeezenet1_1,
    "squeezenet1_1_simple_bypass": _bypassed(squeezenet1_1, "simple"),
    "squeezenet1_1_complex_bypass": _bypassed(squeezenet1_1, "complex"),
    "squeezenet_tiny": squeezenet_tiny,
    "squeezenet_cifar": squeezenet_cifar,
    "alexnet": alexnet,
    "alexnet_cifar": alexnet_cifar,
}


def preset(
    name: str,
    *,
    num_classes: int | None = None,
    input_channels: int | None = None,
    input_size: tuple[int, int] | None = None,
    batch_norm: bool | None = None,
) -> NetworkSpec:
    """Return the spec of this name, changed where an argument is given: see ``adapted``.

    Raises:
        UnknownNameError: no preset has that name.
        SpecError: the changed spec is not a valid network.
    """
    if name not in PRESETS:
        raise UnknownNameError(
            f"unknown architecture {name!r}; expected one of {', '.join(PRESETS)}"
        )
    return adapted(
        PRESETS[name](),
        num_classes=num_classes,
        input_channels=input_channels,
        input_size=input_size,
        batch_norm=batch_norm,
    )


def adapted(
    spec: NetworkSpec,
    *,
    num_classes: int | None = None,
    input_channels: int | None = None,
    input_size: tuple[int, int] | None = None,
    batch_norm: bool | None = None,
) -> NetworkSpec:
    """Return a spec for other classes or images, changed where an argument is given.

    For a SqueezeNet made for larger images, an ``input_size`` (height, width in pixels) of at
    most 32x32 gives its small-input form (``small_input``).

    Raises:
        SpecError: the changed spec is not a valid network.
    """
    if num_classes is not None:
        spec = dataclasses.replace(spec, num_classes=num_classes)
    if input_channels is not None:
        spec = dataclasses.replace(spec, input_channels=input_channels)
    if batch_norm is not None:
        spec = dataclasses.replace(spec, batch_norm=batch_norm)
    if input_size is not None and input_size != spec.input_size:
        if isinstance(spec, SqueezeNetSpec) and max(input_size) <= 32 < max(spec.input_size):
            spec = small_input(spec, input_size)
        else:
            spec = dataclasses.replace(spec, input_size=input_size)
    return spec
