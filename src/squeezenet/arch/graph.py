"""Spec -> list of operations on named tensors, with every shape computed.

The one place where a network's wiring is written down. Counting, the torch module, the file's
layers and every client follow this list. Two things do not appear in it:

- Concatenation: both expand convolutions of a Fire module write channel slices of one tensor.
- Dropout: it does nothing at inference.
"""

from __future__ import annotations

from squeezenet.arch.graph_builder import MAX_ACTIVATIONS, MAX_MACS, MAX_WEIGHTS, GraphBuilder
from squeezenet.arch.operations import (
    Add,
    Conv,
    GlobalAveragePool,
    Graph,
    LocalResponseNorm,
    MaxPool,
    Operation,
    Tensor,
    iter_reads,
)
from squeezenet.arch.spec import AlexNetSpec, ConvSpec, FireSpec, NetworkSpec, SqueezeNetSpec

__all__ = [
    "MAX_ACTIVATIONS",
    "MAX_MACS",
    "MAX_WEIGHTS",
    "Add",
    "Conv",
    "GlobalAveragePool",
    "Graph",
    "LocalResponseNorm",
    "MaxPool",
    "Operation",
    "Tensor",
    "build_graph",
    "iter_reads",
]


def build_graph(spec: NetworkSpec) -> Graph:
    """Compute the operations and shapes of a network.

    Raises:
        SpecError: the input is too small for the network's pools.
        TooLargeError: the network is beyond the limits of the file format.
    """
    builder = GraphBuilder(spec)
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


def _squeezenet(builder: GraphBuilder, spec: SqueezeNetSpec) -> str:
    pools = {pool.after: pool for pool in spec.pools}
    index = _feature_indices(spec)
    norm_key = "features.conv1_bn" if spec.batch_norm else None
    current = builder.conv(spec.stem, "conv1", "input", key="features.0", norm_key=norm_key)
    current = builder.pool(pools.get("conv1"), current)
    for name, fire in zip(spec.fire_names, spec.fires, strict=True):
        _fire(builder, fire, name, current, f"features.{index[name]}", spec.batch_norm)
        current = builder.pool(pools.get(name), name)
    head = ConvSpec(out_channels=spec.num_classes, kernel=1, padding=spec.head.padding)
    current = builder.conv(
        head, "conv10", current, relu=spec.head.last_relu, key="classifier.1", norm_key=None
    )
    return builder.global_average_pool(current)


def _fire(
    builder: GraphBuilder, fire: FireSpec, name: str, source: str, key: str, batch_norm: bool
) -> None:
    """Append a Fire module; its output is the tensor ``name``."""

    def conv(
        part: str, channels: int, source: str, *, kernel: int = 1, relu: bool = True,
        target: str | None = None, start: int = 0, total: int | None = None,
    ) -> str:  # fmt: skip
        return builder.conv(
            ConvSpec(out_channels=channels, kernel=kernel, padding=kernel // 2),
            f"{name}/{part}",
            source,
            relu=relu,
            target=target,
            target_start=start,
            target_channels=total,
            key=f"{key}.{part}",
            norm_key=f"{key}.{part}_bn" if batch_norm else None,
        )

    squeezed = conv("squeeze", fire.s1x1, source)
    target = name if fire.bypass == "none" else f"{name}/expand"
    total = fire.out_channels
    conv("expand1x1", fire.e1x1, squeezed, target=target, total=total)
    conv("expand3x3", fire.e3x3, squeezed, kernel=3, target=target, start=fire.e1x1, total=total)
    if fire.bypass == "conv":
        builder.add(name, target, conv("bypass", total, source, relu=False))
    elif fire.bypass == "identity":
        builder.add(name, target, source)


def _feature_indices(spec: SqueezeNetSpec) -> dict[str, int]:
    """Return the index of each Fire module in torchvision's ``features``.

    ``features`` is a Sequential: conv1 (0), its ReLU (1), then pools and Fire modules in order.
    """
    indices = {}
    index = 2
    pooled = {pool.after for pool in spec.pools}
    for name in ("conv1", *spec.fire_names):
        if name != "conv1":
            indices[name] = index
            index += 1
        index += name in pooled
    return indices


def _alexnet(builder: GraphBuilder, spec: AlexNetSpec) -> str:
    pools = {pool.after: pool for pool in spec.pools}
    current = "input"
    for i, conv in enumerate(spec.convs):
        name = f"conv{i + 1}"
        norm_key = f"{name}_bn" if spec.batch_norm else None
        current = builder.conv(conv, name, current, key=name, norm_key=norm_key)
        if conv.lrn:
            current = builder.local_response_norm(f"norm{i + 1}", current)
        current = builder.pool(pools.get(name), current)
    first = len(spec.convs) + 1
    for i, width in enumerate((*spec.hidden, spec.num_classes)):
        name = f"fc{first + i}"
        hidden = i < len(spec.hidden)
        norm_key = f"{name}_bn" if spec.batch_norm and hidden else None
        current = builder.fully_connected(name, width, current, relu=hidden, norm_key=norm_key)
    return current
