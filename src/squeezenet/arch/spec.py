"""Frozen descriptions of networks: the SqueezeNet family and the AlexNet baseline.

Implements section 3 of the SqueezeNet paper (arXiv 1602.07360): the Fire module with its three
dimensions, stem, pools, bypass, and a convolutional head. Building a spec validates it.
``graph.py`` computes the shapes, and refuses inputs that are too small.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from squeezenet.errors import SpecError

MAX_CHANNELS = 65_536
MAX_INPUT_SIZE = 4_096
MAX_FIRES = 256
MAX_GROUPS = 64
MAX_NAME_LENGTH = 100
"""Bounds on what a model file may claim (spec/FORMAT.md, "RECORD"). The largest network here,
AlexNet, has 4,096 channels, 227 pixels and 2 groups; v1.0 has 8 Fire modules."""

FireBypass = Literal["none", "identity", "conv"]
NetworkBypass = Literal["none", "simple", "complex"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)


def _require_range(where: str, value: object, low: int, high: int) -> None:
    # bool is an int in Python, and a kernel size of True is a mistake.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SpecError(f"{where}: found {value!r}, expected an integer from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class FireSpec:
    """A Fire module: ``s1x1`` 1x1 squeeze filters, then ``e1x1`` 1x1 and ``e3x3`` 3x3 expand ones.

    ``bypass`` adds the module's input to its output, unchanged ("identity") or after a 1x1
    convolution ("conv"). The addition comes after the expand ReLU.

    Raises:
        SpecError: a value is out of range, or the squeeze layer is wider than the expand layers.
    """

    s1x1: int
    e1x1: int
    e3x3: int
    bypass: FireBypass = "none"

    def __post_init__(self) -> None:
        for name in ("s1x1", "e1x1", "e3x3"):
            _require_range(f"Fire module: {name}", getattr(self, name), 1, MAX_CHANNELS // 2)
        _require(
            self.s1x1 <= self.e1x1 + self.e3x3,
            f"Fire module: s1x1 is {self.s1x1}, expected at most e1x1 + e3x3 = "
            f"{self.e1x1 + self.e3x3}: a squeeze layer must not be wider",
        )
        _require(
            self.bypass in ("none", "identity", "conv"),
            f"Fire module: bypass is {self.bypass!r}, expected none, identity or conv",
        )

    @property
    def out_channels(self) -> int:
        return self.e1x1 + self.e3x3


@dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """A square convolution with ReLU; ``lrn`` adds local response normalisation after it.

    Raises:
        SpecError: a value is out of range.
    """

    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    lrn: bool = False

    def __post_init__(self) -> None:
        _require_range("convolution: out_channels", self.out_channels, 1, MAX_CHANNELS)
        _require_range("convolution: kernel", self.kernel, 1, 31)
        _require_range("convolution: stride", self.stride, 1, 16)
        _require_range("convolution: padding", self.padding, 0, self.kernel)
        _require_range("convolution: groups", self.groups, 1, MAX_GROUPS)
        _require(
            self.out_channels % self.groups == 0,
            f"convolution: {self.out_channels} output channels, expected a multiple of "
            f"{self.groups} groups",
        )


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """A max pool after the layer ``after`` ("conv1", "fire4", ...).

    ``ceil_mode`` as in Caffe and torch: a last window that begins inside may overhang the edge.

    Raises:
        SpecError: a value is out of range.
    """

    after: str
    kernel: int = 3
    stride: int = 2
    ceil_mode: bool = True

    def __post_init__(self) -> None:
        _require_range(f"pool after {self.after}: kernel", self.kernel, 1, 31)
        _require_range(f"pool after {self.after}: stride", self.stride, 1, self.kernel)


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """Dropout, then the 1x1 classifier convolution conv10, then a ReLU if ``last_relu``.

    The paper's network has the ReLU. Training starts more reliably without it, so the default is
    none; weights that were trained with it keep it.

    Raises:
        SpecError: a value is out of range.
    """

    dropout: float = 0.5
    padding: int = 0
    last_relu: bool = False

    def __post_init__(self) -> None:
        _require(0.0 <= self.dropout < 1.0, f"head: dropout is {self.dropout}, expected 0 <= p < 1")
        _require_range("head: padding", self.padding, 0, 1)


@dataclass(frozen=True, kw_only=True)
class SqueezeNetSpec:
    """A network of the SqueezeNet family.

    ``fires[i]`` is named ``fire{i+2}``, as in the paper. ``input_size`` is (height, width) in
    pixels. ``batch_norm``: every convolution except the classifier has batch normalisation
    before its ReLU.

    Raises:
        SpecError: a value is out of range, a pool follows no layer, or an identity bypass
            connects different numbers of channels.
    """

    name: str
    stem: ConvSpec
    fires: tuple[FireSpec, ...]
    pools: tuple[PoolSpec, ...]
    head: HeadSpec = field(default_factory=HeadSpec)
    num_classes: int = 1000
    input_channels: int = 3
    input_size: tuple[int, int] = (224, 224)
    batch_norm: bool = False
    family: Literal["squeezenet"] = "squeezenet"

    def __post_init__(self) -> None:
        _check_common(self)
        _require_range(f"{self.name}: number of Fire modules", len(self.fires), 1, MAX_FIRES)
        _require(
            self.stem.groups == 1 and not self.stem.lrn,
            f"{self.name}: the stem has groups or LRN, which only the AlexNet baseline has",
        )
        _check_pools(self.name, self.pools, ("conv1", *self.fire_names))
        in_channels = self.stem.out_channels
        for name, fire in zip(self.fire_names, self.fires, strict=True):
            _require(
                fire.bypass != "identity" or in_channels == fire.out_channels,
                f"{self.name}: {name}: identity bypass from {in_channels} to "
                f'{fire.out_channels} channels; expected equal counts, or bypass "conv"',
            )
            in_channels = fire.out_channels

    @property
    def fire_names(self) -> tuple[str, ...]:
        return tuple(f"fire{i + 2}" for i in range(len(self.fires)))


@dataclass(frozen=True, kw_only=True)
class AlexNetSpec:
    """The baseline: Caffe's AlexNet, with grouped convolutions and LRN.

    ``convs[i]`` is named ``conv{i+1}``. The fully connected layers, of widths ``hidden``, and the
    classifier are convolutions named ``fc{n}``. ``batch_norm``: every layer except the classifier
    has batch normalisation before its ReLU. Float32 only: integer clients do not run it.

    Raises:
        SpecError: a value is out of range, or a pool follows no layer.
    """

    name: str
    convs: tuple[ConvSpec, ...]
    pools: tuple[PoolSpec, ...]
    hidden: tuple[int, ...]
    dropout: float = 0.5
    num_classes: int = 1000
    input_channels: int = 3
    input_size: tuple[int, int] = (227, 227)
    batch_norm: bool = False
    family: Literal["alexnet"] = "alexnet"

    def __post_init__(self) -> None:
        _check_common(self)
        _require_range(f"{self.name}: number of convolutions", len(self.convs), 1, 64)
        _require_range(f"{self.name}: number of hidden layers", len(self.hidden), 0, 8)
        for width in self.hidden:
            _require_range(f"{self.name}: hidden width", width, 1, MAX_CHANNELS)
        _require(
            0.0 <= self.dropout < 1.0,
            f"{self.name}: dropout is {self.dropout}, expected 0 <= p < 1",
        )
        _check_pools(self.name, self.pools, tuple(f"conv{i + 1}" for i in range(len(self.convs))))
        in_channels = self.input_channels
        for i, conv in enumerate(self.convs):
            _require(
                in_channels % conv.groups == 0,
                f"{self.name}: conv{i + 1}: {in_channels} input channels, expected a multiple of "
                f"{conv.groups} groups",
            )
            in_channels = conv.out_channels


NetworkSpec = SqueezeNetSpec | AlexNetSpec


def _check_common(spec: NetworkSpec) -> None:
    _require(
        0 < len(spec.name) <= MAX_NAME_LENGTH and spec.name.isprintable(),
        f"network name is {spec.name[:40]!r}, expected 1 to {MAX_NAME_LENGTH} printable characters",
    )
    _require_range(f"{spec.name}: num_classes", spec.num_classes, 1, MAX_CHANNELS)
    _require_range(f"{spec.name}: input_channels", spec.input_channels, 1, MAX_CHANNELS)
    for side in spec.input_size:
        _require_range(f"{spec.name}: input_size", side, 1, MAX_INPUT_SIZE)


def _check_pools(name: str, pools: tuple[PoolSpec, ...], layers: tuple[str, ...]) -> None:
    places = [pool.after for pool in pools]
    for place in places:
        _require(
            place in layers,
            f"{name}: pool after {place!r}, expected one of {layers[0]} .. {layers[-1]}",
        )
    _require(len(set(places)) == len(places), f"{name}: two pools after the same layer")


def with_bypass(spec: SqueezeNetSpec, bypass: NetworkBypass) -> SqueezeNetSpec:
    """Return the spec with the paper's bypass (section 6 and figure 2) on its Fire modules.

    "simple": an identity bypass around every Fire module with as many input as output channels
    (fire3, 5, 7, 9 of v1.0). "complex": also a 1x1 convolution around the others.

    Raises:
        SpecError: ``bypass`` is not one of the three.
    """
    _require(
        bypass in ("none", "simple", "complex"),
        f"{spec.name}: bypass is {bypass!r}, expected none, simple or complex",
    )
    fires = []
    in_channels = spec.stem.out_channels
    for fire in spec.fires:
        kind: FireBypass = "none"
        if bypass != "none" and in_channels == fire.out_channels:
            kind = "identity"
        elif bypass == "complex":
            kind = "conv"
        fires.append(dataclasses.replace(fire, bypass=kind))
        in_channels = fire.out_channels
    return dataclasses.replace(spec, fires=tuple(fires))


def small_input(spec: SqueezeNetSpec, size: tuple[int, int] = (32, 32)) -> SqueezeNetSpec:
    """Return the variant of a spec for inputs of at most 32x32 pixels.

    The stem becomes a 3x3 convolution of stride 1, and the pool after it is removed. Of the other
    pools, the earliest are removed while fewer than 4x4 positions would reach the classifier
    ("downsample late", section 3.1 of the paper).

    Raises:
        SpecError: ``size`` is larger.
    """
    _require(
        max(size) <= 32,
        f"{spec.name}: input {size[0]}x{size[1]}, expected at most 32x32 for this form",
    )
    stem = dataclasses.replace(spec.stem, kernel=3, stride=1, padding=1)
    pools = tuple(pool for pool in spec.pools if pool.after != "conv1")
    while pools and min(size) // 2 ** len(pools) < 4:
        pools = pools[1:]
    return dataclasses.replace(spec, stem=stem, pools=pools, input_size=size)
