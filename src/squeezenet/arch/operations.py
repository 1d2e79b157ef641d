"""The operations of a network, and the tensors between them.

Plain data: ``graph.build_graph`` makes it, everything else reads it. ``arch.graph`` exports all
names of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from squeezenet.arch.spec import NetworkSpec


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
    """A convolution with bias, and a ReLU if ``relu``.

    It writes ``out_channels`` channels of ``target``, from ``target_start`` on. ``key`` is the
    layer's prefix in the state_dict, torchvision's where torchvision has the layer. ``norm_key``
    is the prefix of its batch normalisation, or None.
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
        """(O, I/groups, height, width), torch's order OIHW."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def num_weights(self) -> int:
        o, i, h, w = self.weight_shape
        return o * i * h * w


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Max pool without padding. A window that overhangs the edge (ceil mode) is clipped."""

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
    """x / (1 + alpha/size * sum of x^2 over ``size`` neighbouring channels)^beta, as in Caffe.

    The defaults are those of AlexNet (Krizhevsky et al. 2012) as Caffe's model has them.
    """

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


def iter_reads(op: Operation) -> Iterator[str]:
    """Yield the names of the tensors that an operation reads."""
    yield op.source
    if isinstance(op, Add):
        yield op.other
