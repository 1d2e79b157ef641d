"""What each layer of a compressed model takes: the numbers that tables show."""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.codec.container import encode_layer
from squeezenet.codec.types import CompressedLayer


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """One layer: ``density`` in percent, bits a kept weight and a gap on average (where zeros are
    coded among the weights there are no gaps), ``bytes`` with bias, codebook and code tables."""

    layer: str
    weights: int
    kept: int
    density: float
    bits_a_weight: float
    bits_a_gap: float
    float_bytes: int
    bytes: int


def layer_sizes(layers: tuple[CompressedLayer, ...]) -> list[LayerSizes]:
    """Measure every layer by coding it."""
    rows = []
    for layer in layers:
        payload, sizes = encode_layer(layer)
        kept = layer.num_nonzero
        rows.append(
            LayerSizes(
                layer=layer.name,
                weights=layer.num_weights,
                kept=kept,
                density=100 * kept / layer.num_weights,
                bits_a_weight=sizes.symbol_bits / max(1, kept),
                bits_a_gap=sizes.gap_bits / max(1, kept),
                float_bytes=4 * (layer.num_weights + len(layer.bias_O)),
                bytes=len(payload),
            )
        )
    return rows
