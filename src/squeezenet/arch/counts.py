"""Parameters, multiply-accumulates and activation bytes of a network, from its graph alone.

A MAC is one multiplication and its addition in a convolution. By the usual convention pools,
additions, biases and normalisation are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.arch.graph import Conv, Graph

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class LayerCounts:
    """One operation: the shape (C, H, W) of its output, and its cost per image.

    ``activation_bytes`` is float32.
    """

    name: str
    kind: str
    output_shape: tuple[int, int, int]
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True, kw_only=True)
class NetworkCounts:
    """A network's totals per image.

    ``weight_bytes`` and ``activation_bytes`` are float32; every tensor except the input is
    counted once.
    """

    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    layers: tuple[LayerCounts, ...]


def count(graph: Graph) -> NetworkCounts:
    """Count a network's trainable parameters, MACs and bytes.

    A convolution with batch normalisation has two parameters per channel in place of its bias.
    """
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
