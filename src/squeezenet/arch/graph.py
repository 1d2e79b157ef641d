"""Spec -> list of operations on named tensors, with every shape worked out.

The one place where a network's wiring is written down; counting, the torch module's weights,
the file's layers and every client follow this list. Concatenation does not appear: both
expand convolutions of a Fire module write channel slices of one tensor. Dropout does not
appear: it does nothing when a network runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from squeezenet.arch.spec import AlexNetSpec, ConvSpec, NetworkSpec, PoolSpec, SqueezeNetSpec
from squeezenet.errors import SpecError, TooLargeError

MAX_WEIGHTS = 1 << 27
"""Most weights that a network may have (AlexNet has 0.45 of it), and most elements that one
of its tensors may have: what a file's header can make a reader allocate."""
MAX_ACTIVATIONS = 1 << 28
"""Most elements of all tensors together, and of one convolution's gathered input windows."""
MAX_MACS = 1 << 35
"""Most multiply-accumulates for one image: 40 times those of SqueezeNet v1.0."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An activation: ``channels`` x ``height`` x ``width`` for one image."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def num_elements(self) -> int:
        return self.channels * self.height * self.width


@dataclass(frozen=True, kw_only=True)
class Conv:
    """Convolution into channels ``target_start`` .. + ``out_channels`` of ``target``.

    ``key`` is the layer's prefix in the state_dict (torchvision's where it has the layer), and
    ``norm_key`` that of its batch normalisation, or None.
    """

    name: str
    source: str
    target: str
    target_start: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: int
    padding: int
    groups: int
    relu: bool
    key: str
    norm_key: str | None

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I/groups, height, width), the order OIHW of torch."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def num_weights(self) -> int:
        o, i, h, w = self.weight_shape
        return o * i * h * w


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Max pool without padding; windows that the ceil mode lets overhang are cut off."""

    name: str
    source: str
    target: str
    kernel: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class Add:
    """Bypass: ``target`` = ``source`` + ``other``, elementwise."""

    name: str
    source: str
    other: str
    target: str


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool:
    """Mean over all positions."""

    name: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class LocalResponseNorm:
    """x / (1 + alpha/size * sum of x^2 over ``size`` neighbouring channels)^beta, as in Caffe."""

    name: str
    source: str
    target: str
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75


Operation = Conv | MaxPool | Add | GlobalAveragePool | LocalResponseNorm


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Operations in the order in which they run; ``tensors`` by name, input first."""

    spec: NetworkSpec
    operations: tuple[Operation, ...]
    tensors: dict[str, Tensor]
    input: str
    output: str

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The layers with weights, in network order: the layers of a model file."""
        return tuple(op for op in self.operations if isinstance(op, Conv))


def build_graph(spec: NetworkSpec) -> Graph:
    """Work out the operations and shapes of a network.

    Raises:
        SpecError: an input too small for its pools.
        TooLargeError: a network beyond the limits.
    """
    builder = _Builder(spec)
    if isinstance(spec, SqueezeNetSpec):
        output = _squeezenet(builder, spec)
    else:
        output = _alexnet(builder, spec)
    return Graph(
        spec=spec,
        operations=tuple(builder.operations),
        tensors=builder.tensors,
        input="input",
        output=output,
    )


def _squeezenet(builder: _Builder, spec: SqueezeNetSpec) -> str:
    pools = {pool.after: pool for pool in spec.pools}
    index = _feature_indices(spec)
    norm = spec.batch_norm
    current = builder.conv(
        spec.stem,
        "conv1",
        "input",
        key="features.0",
        norm_key="features.conv1_bn" if norm else None,
    )
    current = builder.pool(pools.get("conv1"), current)
    for name, fire in zip(spec.fire_names, spec.fires, strict=True):
        key = f"features.{index[name]}"

        def part(
            suffix: str, channels: int, source: str, *, kernel: int = 1, relu: bool = True,
            target: str | None = None, start: int = 0, total: int | None = None,
            name: str = name, key: str = key,
        ) -> str:  # fmt: skip
            return builder.conv(
                ConvSpec(out_channels=channels, kernel=kernel, padding=kernel // 2),
                f"{name}/{suffix}",
                source,
                relu=relu,
                target=target,
                target_start=start,
                target_channels=total,
                key=f"{key}.{suffix}",
                norm_key=f"{key}.{suffix}_bn" if norm else None,
            )

        squeezed = part("squeeze", fire.s1x1, current)
        target = name if fire.bypass == "none" else f"{name}/expand"
        total = fire.out_channels
        part("expand1x1", fire.e1x1, squeezed, target=target, total=total)
        part(
            "expand3x3", fire.e3x3, squeezed, kernel=3, target=target, start=fire.e1x1, total=total
        )
        if fire.bypass != "none":
            shortcut = current
            if fire.bypass == "conv":
                shortcut = part("bypass", total, current, relu=False)
            builder.add(name, target, shortcut)
        current = builder.pool(pools.get(name), name)
    head = ConvSpec(out_channels=spec.num_classes, kernel=1, padding=spec.head.padding)
    current = builder.conv(
        head, "conv10", current, relu=spec.head.last_relu, key="classifier.1", norm_key=None
    )
    return builder.average(current)


def _feature_indices(spec: SqueezeNetSpec) -> dict[str, int]:
    """Place of each Fire module in torchvision's ``features``: conv, ReLU, then as they come."""
    indices = {}
    place = 2
    pooled = {pool.after for pool in spec.pools}
    for name in ("conv1", *spec.fire_names):
        if name != "conv1":
            indices[name] = place
            place += 1
        place += name in pooled
    return indices


def _alexnet(builder: _Builder, spec: AlexNetSpec) -> str:
    pools = {pool.after: pool for pool in spec.pools}
    current = "input"
    for i, conv in enumerate(spec.convs):
        name = f"conv{i + 1}"
        norm_key = f"{name}_bn" if spec.batch_norm else None
        current = builder.conv(conv, name, current, key=name, norm_key=norm_key)
        if conv.lrn:
            current = builder.lrn(f"norm{i + 1}", current)
        current = builder.pool(pools.get(name), current)
    first = len(spec.convs) + 1
    for i, width in enumerate((*spec.hidden, spec.num_classes)):
        name = f"fc{first + i}"
        hidden = i < len(spec.hidden)
        norm_key = f"{name}_bn" if spec.batch_norm and hidden else None
        current = builder.full(name, width, current, relu=hidden, norm_key=norm_key)
    return current


@dataclass
class _Builder:
    """Appends operations and keeps the shapes."""

    spec: NetworkSpec
    operations: list[Operation] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    num_weights: int = 0
    num_macs: int = 0
    num_elements: int = 0

    def __post_init__(self) -> None:
        height, width = self.spec.input_size
        self._tensor("input", self.spec.input_channels, height, width)

    def _tensor(self, name: str, channels: int, height: int, width: int) -> None:
        tensor = Tensor(name=name, channels=channels, height=height, width=width)
        if tensor.num_elements > MAX_WEIGHTS:
            raise TooLargeError(
                f"{self.spec.name}: {name} has {channels}x{height}x{width} elements, "
                f"expected at most {MAX_WEIGHTS}"
            )
        if name not in self.tensors:
            self.num_elements += tensor.num_elements
            self._require_within("elements in its tensors", self.num_elements, MAX_ACTIVATIONS)
        known = self.tensors.setdefault(name, tensor)
        assert known == tensor, (known, tensor)

    def conv(
        self,
        conv: ConvSpec,
        name: str,
        source: str,
        *,
        key: str,
        norm_key: str | None,
        relu: bool = True,
        target: str | None = None,
        target_start: int = 0,
        target_channels: int | None = None,
    ) -> str:
        target = target or name
        x = self.tensors[source]
        height = (x.height + 2 * conv.padding - conv.kernel) // conv.stride + 1
        width = (x.width + 2 * conv.padding - conv.kernel) // conv.stride + 1
        self._require_positive(name, x, height, width)
        self._tensor(target, target_channels or conv.out_channels, height, width)
        self._append_conv(
            Conv(
                name=name,
                source=source,
                target=target,
                target_start=target_start,
                in_channels=x.channels,
                out_channels=conv.out_channels,
                kernel=(conv.kernel, conv.kernel),
                stride=conv.stride,
                padding=conv.padding,
                groups=conv.groups,
                relu=relu,
                key=key,
                norm_key=norm_key,
            )
        )
        return target

    def full(self, name: str, width: int, source: str, *, relu: bool, norm_key: str | None) -> str:
        """A fully connected layer: a convolution whose kernel is all of its input."""
        x = self.tensors[source]
        self._tensor(name, width, 1, 1)
        self._append_conv(
            Conv(
                name=name,
                source=source,
                target=name,
                target_start=0,
                in_channels=x.channels,
                out_channels=width,
                kernel=(x.height, x.width),
                stride=1,
                padding=0,
                groups=1,
                relu=relu,
                key=name,
                norm_key=norm_key,
            )
        )
        return name

    def _append_conv(self, conv: Conv) -> None:
        target = self.tensors[conv.target]
        positions = target.height * target.width
        windows = conv.in_channels * conv.kernel[0] * conv.kernel[1] * positions
        self.num_weights += conv.num_weights
        self.num_macs += conv.num_weights * positions
        self._require_within("weights", self.num_weights, MAX_WEIGHTS)
        self._require_within("multiply-accumulates", self.num_macs, MAX_MACS)
        self._require_within(f"elements in the windows of {conv.name}", windows, MAX_ACTIVATIONS)
        self.operations.append(conv)

    def _require_within(self, what: str, found: int, limit: int) -> None:
        if found > limit:
            raise TooLargeError(f"{self.spec.name}: more than {limit} {what}, expected fewer")

    def pool(self, pool: PoolSpec | None, source: str) -> str:
        if pool is None:
            return source
        x = self.tensors[source]
        name = "pool" + pool.after.removeprefix("conv").removeprefix("fire")
        sides = []
        for side in (x.height, x.width):
            steps = side - pool.kernel
            out = (-(-steps // pool.stride) if pool.ceil_mode else steps // pool.stride) + 1
            # As in Caffe and torch, a window must begin inside the image.
            sides.append(out - ((out - 1) * pool.stride >= side))
            self._require_positive(name, x, steps + 1, steps + 1)
        self._tensor(name, x.channels, *sides)
        self.operations.append(
            MaxPool(name=name, source=source, target=name, kernel=pool.kernel, stride=pool.stride)
        )
        return name

    def add(self, name: str, source: str, other: str) -> str:
        x = self.tensors[source]
        assert x.num_elements == self.tensors[other].num_elements
        self._tensor(name, x.channels, x.height, x.width)
        self.operations.append(Add(name=f"{name}/add", source=source, other=other, target=name))
        return name

    def average(self, source: str) -> str:
        self._tensor("logits", self.tensors[source].channels, 1, 1)
        self.operations.append(GlobalAveragePool(name="avgpool", source=source, target="logits"))
        return "logits"

    def lrn(self, name: str, source: str) -> str:
        x = self.tensors[source]
        self._tensor(name, x.channels, x.height, x.width)
        self.operations.append(LocalResponseNorm(name=name, source=source, target=name))
        return name

    def _require_positive(self, name: str, x: Tensor, height: int, width: int) -> None:
        if height < 1 or width < 1:
            at = self.spec.input_size
            raise SpecError(
                f"{self.spec.name}: {name} finds only {x.height}x{x.width} positions of its "
                f"{at[0]}x{at[1]} input left; use a larger input or fewer pools"
            )


def iter_reads(op: Operation) -> Iterator[str]:
    """Names of the tensors that an operation reads."""
    yield op.source
    if isinstance(op, Add):
        yield op.other
