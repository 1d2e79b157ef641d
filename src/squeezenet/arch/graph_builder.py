"""Append operations one by one: compute each shape, and check the limits of the file format."""

from __future__ import annotations

from dataclasses import dataclass, field

from squeezenet.arch.operations import (
    Add,
    Conv,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    Operation,
    Tensor,
)
from squeezenet.arch.spec import ConvSpec, NetworkSpec, PoolSpec
from squeezenet.errors import SpecError, TooLargeError

MAX_WEIGHTS = 1 << 27
"""Max weights of a network, and max elements of one tensor (spec/FORMAT.md, "Limits"). It bounds
what a file's header can make a reader allocate. AlexNet has 0.45 of it."""
MAX_ACTIVATIONS = 1 << 28
"""Max elements of all tensors together, and of one convolution's gathered input windows
(spec/FORMAT.md, "Limits")."""
MAX_MACS = 1 << 35
"""Max multiply-accumulates per image (spec/FORMAT.md, "Limits"): 40 times SqueezeNet v1.0."""


@dataclass
class GraphBuilder:
    """Collects operations and their tensors. Each method returns the name of its target."""

    spec: NetworkSpec
    operations: list[Operation] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    num_weights: int = 0
    num_macs: int = 0
    num_elements: int = 0

    def __post_init__(self) -> None:
        height, width = self.spec.input_size
        self._tensor("input", self.spec.input_channels, height, width)

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
        """Append a convolution that writes all of ``target``, or a slice of its channels."""
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

    def fully_connected(
        self, name: str, width: int, source: str, *, relu: bool, norm_key: str | None
    ) -> str:
        """Append a fully connected layer: a convolution whose kernel covers its whole input."""
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

    def pool(self, pool: PoolSpec | None, source: str) -> str:
        """Append a max pool; None appends nothing."""
        if pool is None:
            return source
        x = self.tensors[source]
        name = "pool" + pool.after.removeprefix("conv").removeprefix("fire")
        sides = []
        for side in (x.height, x.width):
            span = side - pool.kernel
            out = (-(-span // pool.stride) if pool.ceil_mode else span // pool.stride) + 1
            # As in Caffe and torch, a window must begin inside the image.
            sides.append(out - ((out - 1) * pool.stride >= side))
            self._require_positive(name, x, span + 1, span + 1)
        self._tensor(name, x.channels, *sides)
        self.operations.append(
            MaxPool(name=name, source=source, target=name, kernel=pool.kernel, stride=pool.stride)
        )
        return name

    def add(self, name: str, source: str, other: str) -> str:
        """Append an addition of two tensors of the same shape."""
        x = self.tensors[source]
        assert x.num_elements == self.tensors[other].num_elements
        self._tensor(name, x.channels, x.height, x.width)
        self.operations.append(Add(name=f"{name}/add", source=source, other=other, target=name))
        return name

    def global_average_pool(self, source: str) -> str:
        """Append the global average pool that ends a SqueezeNet."""
        self._tensor("logits", self.tensors[source].channels, 1, 1)
        self.operations.append(GlobalAveragePool(name="avgpool", source=source, target="logits"))
        return "logits"

    def local_response_norm(self, name: str, source: str) -> str:
        """Append AlexNet's local response normalisation."""
        x = self.tensors[source]
        self._tensor(name, x.channels, x.height, x.width)
        self.operations.append(LocalResponseNorm(name=name, source=source, target=name))
        return name

    def _tensor(self, name: str, channels: int, height: int, width: int) -> None:
        """Add a tensor. The two expand convolutions of a Fire module add the same one."""
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
            raise TooLargeError(f"{self.spec.name}: {found} {what}, expected at most {limit}")

    def _require_positive(self, name: str, x: Tensor, height: int, width: int) -> None:
        if height < 1 or width < 1:
            at = self.spec.input_size
            raise SpecError(
                f"{self.spec.name}: at {name} only {x.height}x{x.width} positions are left of the "
                f"{at[0]}x{at[1]} input; use a larger input or fewer pools"
            )
