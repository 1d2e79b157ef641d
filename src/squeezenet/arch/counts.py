"""Parameters, multiply-accumulates and activation bytes of a network, from its graph alone.

A MAC is one multiplication with its addition in a convolution; pools, additions, biases and
normalisation are not counted, as is the field's custom.
"""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.arch.graph import Conv, Graph

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class LayerCounts:
    """One operation: shape (C, H, W) of what it writes, and what it costs for one image."""

    name: str
    kind: str
    output_shape: tuple[int, int, int]
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True, kw_only=True)
class NetworkCounts:
    """A whole network; ``activation_bytes`` is float32, every tensor but the input once."""

    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    layers: tuple[LayerCounts, ...]


def count(graph: Graph) -> NetworkCounts:
    """Count a network. ``parameters`` are the trainable ones: a batch normalisation has two a
    channel, in place of the convolution's bias."""
    layers = []
    for op in graph.operations:
        target = graph.tensors[op.target]
        channels, parameters, macs = target.channels, 0, 0
        if isinstance(op, Conv):
            channels = op.out_channels
            norm_or_bias = 2 if op.norm_key else 1
            parameters = op.num_weights + norm_or_bias * op.out_channels
            macs = op.num_weights * target.height * target.width
        layers.append(
            LayerCounts(
                name=op.name,
                kind=type(op).__name__,
                output_shape=(channels, target.height, target.width),
                parameters=parameters,
                macs=macs,
                activation_bytes=FLOAT_BYTES * channels * target.height * target.width,
            )
        )
    parameters = sum(layer.parameters for layer in layers)
    return NetworkCounts(
        parameters=parameters,
        macs=sum(layer.macs for layer in layers),
        weight_bytes=FLOAT_BYTES * parameters,
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        layers=tuple(layers),
    )
