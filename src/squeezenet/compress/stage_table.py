"""The stage table: size and accuracy after each stage of a compression.

Its columns are those of Deep Compression's tables (arXiv 1510.00149, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.codec.sizes import LayerSizes
from squeezenet.codec.types import CodebookWeights, CompressedLayer
from squeezenet.evaluation.metrics import Evaluation

GAP_BITS = 4
"""Bits per gap before Huffman coding, as in the released file of SqueezeNet's authors."""

KeptWeights = Sequence[npt.NDArray[np.bool_]]
"""Per layer, which weights are kept (True)."""


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One row of the table.

    ``density``: percent of the weights that are not zero. ``bits_per_weight`` and
    ``bits_per_gap``: mean bits per kept weight, and per gap between kept weights. ``bytes``: all
    that the stage must store. ``top1`` and ``top5``: percent, or None without labelled images.
    """

    stage: str
    density: float
    bits_per_weight: float
    bits_per_gap: float
    bytes: int
    top1: float | None
    top5: float | None


def float_row(num_weights: int, num_biases: int, measured: Evaluation | None) -> StageRow:
    """The original: float32 weights and biases."""
    return _row("float32", 100.0, 32.0, 0.0, 4 * (num_weights + num_biases), measured)


def pruned_row(kept: KeptWeights, num_biases: int, measured: Evaluation | None) -> StageRow:
    """Kept weights in float32 with 4-bit gaps. Long gaps need filler entries."""
    size = 4 * num_biases + sum((_num_entries(k) * (32 + GAP_BITS) + 7) // 8 for k in kept)
    return _row("pruned", _density(kept), 32.0, float(GAP_BITS), size, measured)


def shared_row(
    layers: tuple[CompressedLayer, ...], bits: Mapping[str, int], measured: Evaluation | None
) -> StageRow:
    """Codes with 4-bit gaps, codebooks and biases; ``bits`` of a code, by the layer's name."""
    size, kept, code_bits = 0, [], 0
    for layer in layers:
        assert isinstance(layer.weights, CodebookWeights)
        kept.append(layer.weights.codes_OIHW != 0)
        entries = _num_entries(kept[-1])
        code_bits += bits[layer.name] * entries
        size += (entries * (bits[layer.name] + GAP_BITS) + 7) // 8
        size += 4 * (len(layer.weights.codebook) + len(layer.bias_O))
    mean_bits = code_bits / max(1, sum(map(_num_entries, kept)))
    return _row("shared", _density(kept), mean_bits, float(GAP_BITS), size, measured)


def huffman_row(layers: Sequence[LayerSizes], file_bytes: int) -> StageRow:
    """The file with the paper's Huffman coder. It is only sized, neither kept nor measured."""
    kept = sum(row.kept for row in layers)
    weight_bits = sum(row.symbol_bits for row in layers) / max(1, kept)
    gap_bits = sum(row.gap_bits for row in layers) / max(1, kept)
    return _row("huffman", _coded_density(layers), weight_bits, gap_bits, file_bytes, None)


def coded_row(
    layers: Sequence[LayerSizes],
    file_bytes: int,
    measured: Evaluation | None,
    *,
    stage: str,
) -> StageRow:
    """The range-coded file with record and checksums. Zeros are coded as levels, without gaps."""
    kept = sum(row.kept for row in layers)
    bits = 8 * sum(row.bytes for row in layers) / max(1, kept)
    return _row(stage, _coded_density(layers), bits, 0.0, file_bytes, measured)


def _coded_density(layers: Sequence[LayerSizes]) -> float:
    return 100 * sum(row.kept for row in layers) / sum(row.weights for row in layers)


def _row(
    stage: str, density: float, weight: float, gap: float, size: int, measured: Evaluation | None
) -> StageRow:
    return StageRow(
        stage=stage,
        density=density,
        bits_per_weight=weight,
        bits_per_gap=gap,
        bytes=size,
        top1=measured.top1 if measured else None,
        top5=measured.top5 if measured else None,
    )


def _density(kept: KeptWeights) -> float:
    return 100 * sum(int(np.count_nonzero(k)) for k in kept) / sum(k.size for k in kept)


def _num_entries(kept: npt.NDArray[np.bool_]) -> int:
    """Kept weights and fillers. A 4-bit gap spans at most 15 zeros; a filler is a stored zero."""
    positions = np.flatnonzero(kept)
    gaps = np.diff(positions, prepend=-1) - 1
    return int(len(positions) + (gaps // (1 << GAP_BITS)).sum())
