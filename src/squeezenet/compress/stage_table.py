"""The paper's table: what each stage leaves of the weights' bytes, and of the accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.codec.container import encode_layer
from squeezenet.codec.types import CodebookWeights, CompressedLayer
from squeezenet.images.evaluate import Evaluation

GAP_BITS = 4
"""Bits of a gap before Huffman coding, as in the authors' released file."""


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """``density`` in percent; bits a kept weight and a gap between kept weights, on average.

    ``bytes`` counts all that the stage must store; ``top1`` and ``top5`` are percent, or None
    where nothing was given to measure with.
    """

    stage: str
    density: float
    bits_a_weight: float
    bits_a_gap: float
    bytes: int
    top1: float | None
    top5: float | None


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of the finished file; ``bytes`` includes bias, codebook and code tables."""

    layer: str
    weights: int
    density: float
    bits_a_weight: float
    bits_a_gap: float
    float_bytes: int
    bytes: int


def float_row(layers: tuple[CompressedLayer, ...], measured: Evaluation | None) -> StageRow:
    """The network before: float32 weights and biases."""
    size = sum(4 * (layer.num_weights + len(layer.bias_O)) for layer in layers)
    return _row("float32", 100.0, 32.0, 0.0, size, measured)


def pruned_row(layers: tuple[CompressedLayer, ...], measured: Evaluation | None) -> StageRow:
    """Float32 weights that are kept, with 4-bit gaps and the fillers that long runs need."""
    entries = sum(_num_entries(layer) for layer in layers)
    biases = sum(4 * len(layer.bias_O) for layer in layers)
    size = biases + (entries * (32 + GAP_BITS) + 7) // 8
    return _row("pruned", _density(layers), 32.0, float(GAP_BITS), size, measured)


def shared_row(
    layers: tuple[CompressedLayer, ...], bits: int, measured: Evaluation | None
) -> StageRow:
    """Codes of ``bits`` bits, 4-bit gaps, codebooks and biases."""
    size = 0
    for layer in layers:
        assert isinstance(layer.weights, CodebookWeights)
        size += (_num_entries(layer) * (bits + GAP_BITS) + 7) // 8
        size += 4 * (len(layer.weights.codebook) + len(layer.bias_O))
    return _row("shared", _density(layers), float(bits), float(GAP_BITS), size, measured)


def coded_row(layer_rows: list[LayerRow], file_bytes: int, measured: Evaluation | None) -> StageRow:
    """The finished file, record and checksums included."""
    kept = sum(row.weights * row.density for row in layer_rows) / 100
    weight_bits = sum(row.bits_a_weight * row.weights * row.density for row in layer_rows) / 100
    gap_bits = sum(row.bits_a_gap * row.weights * row.density for row in layer_rows) / 100
    density = 100 * kept / sum(row.weights for row in layer_rows)
    kept = max(kept, 1)
    return _row("huffman", density, weight_bits / kept, gap_bits / kept, file_bytes, measured)


def layer_rows(layers: tuple[CompressedLayer, ...]) -> list[LayerRow]:
    """Measure every layer by coding it."""
    rows = []
    for layer in layers:
        payload, sizes = encode_layer(layer)
        kept = max(1, layer.num_nonzero)
        rows.append(
            LayerRow(
                layer=layer.name,
                weights=layer.num_weights,
                density=100 * layer.num_nonzero / layer.num_weights,
                bits_a_weight=sizes.symbol_bits / kept,
                bits_a_gap=sizes.gap_bits / kept,
                float_bytes=4 * (layer.num_weights + len(layer.bias_O)),
                bytes=len(payload),
            )
        )
    return rows


def _row(
    stage: str, density: float, weight: float, gap: float, size: int, measured: Evaluation | None
) -> StageRow:
    return StageRow(
        stage=stage,
        density=density,
        bits_a_weight=weight,
        bits_a_gap=gap,
        bytes=size,
        top1=measured.top1 if measured else None,
        top5=measured.top5 if measured else None,
    )


def _density(layers: tuple[CompressedLayer, ...]) -> float:
    kept = sum(layer.num_nonzero for layer in layers)
    return 100 * kept / sum(layer.num_weights for layer in layers)


def _num_entries(layer: CompressedLayer) -> int:
    """Kept weights and fillers: a 4-bit gap spans at most 15 zeros."""
    positions: npt.NDArray[np.int64] = np.flatnonzero(layer.weights.symbols_OIHW)
    gaps = np.diff(positions, prepend=-1) - 1
    return int(len(positions) + (gaps // (1 << GAP_BITS)).sum())
