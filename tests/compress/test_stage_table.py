"""The stage table, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from squeezenet.codec.sizes import LayerSizes
from squeezenet.codec.types import CodebookWeights, CompressedLayer
from squeezenet.compress.stage_table import (
    coded_row,
    float_row,
    huffman_row,
    pruned_row,
    shared_row,
)
from squeezenet.evaluation.metrics import Evaluation

MEASURED = Evaluation(top1=50.0, top5=75.0, images=4, skipped=0)


def kept(*places: int, size: int = 40) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[list(places)] = True
    return mask.reshape(2, size // 2, 1, 1)


def sizes(**options: object) -> LayerSizes:
    values: dict[str, object] = {
        "layer": "x", "weights": 100, "kept": 25, "density": 25.0, "bits_per_weight": 4.0,
        "float_bytes": 400, "bytes": 50, "huffman_bytes": 60, "symbol_bits": 75, "gap_bits": 50,
    }  # fmt: skip
    return LayerSizes(**(values | options))  # type: ignore[arg-type]


def test_float32() -> None:
    row = float_row(100, 7, MEASURED)
    assert (row.stage, row.density, row.bits_per_weight, row.bits_per_gap) == (
        "float32", 100.0, 32.0, 0.0,
    )  # fmt: skip
    assert (row.bytes, row.top1, row.top5) == (4 * 107, 50.0, 75.0)
    unmeasured = float_row(1, 1, None)
    assert unmeasured.top1 is None and unmeasured.top5 is None


def test_pruned_weights_have_gaps_and_fillers() -> None:
    # A gap of 16 zeros or more needs a filler, one of 15 none; the first gap is before the first.
    cases = [((0, 16), 2), ((0, 17), 3), ((16,), 2), ((15,), 1), ((33,), 3), ((0, 1, 2), 3)]
    for places, entries in cases:
        row = pruned_row([kept(*places)], 0, MEASURED)
        assert row.bytes == (entries * 36 + 7) // 8, places
        assert row.density == pytest.approx(100 * len(places) / 40)
    row = pruned_row([kept(0), kept(1, 2)], 5, MEASURED)
    assert row.bytes == 4 * 5 + (36 + 7) // 8 + (72 + 7) // 8
    assert (row.stage, row.bits_per_weight, row.bits_per_gap) == ("pruned", 32.0, 4.0)
    assert row.density == pytest.approx(100 * 3 / 80)
    assert row.top5 == 75.0


def test_shared_weights_have_codes_and_codebooks() -> None:
    codes = kept(0, 5, 6).astype(np.uint8)
    layer = CompressedLayer(
        name="x",
        weights=CodebookWeights(codes_OIHW=codes, codebook=np.array([0, 1.5], np.float32)),
        bias_O=np.zeros(2, np.float32),
    )
    row = shared_row((layer, layer), {"x": 5}, MEASURED)
    assert row.bytes == 2 * ((3 * 9 + 7) // 8 + 4 * (2 + 2))
    assert (row.stage, row.bits_per_weight, row.bits_per_gap) == ("shared", 5.0, 4.0)
    assert row.density == pytest.approx(100 * 3 / 40) and row.top1 == 50.0


def test_coded_weights() -> None:
    layers = [sizes(), sizes(weights=300, kept=15, bytes=10, symbol_bits=5, gap_bits=30)]
    row = coded_row(layers, 999, MEASURED, stage="rounded")
    assert (row.stage, row.bytes, row.density) == ("rounded", 999, 10.0)
    assert (row.bits_per_weight, row.bits_per_gap) == (8 * 60 / 40, 0.0)
    row = huffman_row(layers, 777)
    assert (row.stage, row.bytes, row.density, row.top1) == ("huffman", 777, 10.0, None)
    assert (row.bits_per_weight, row.bits_per_gap) == (80 / 40, 80 / 40)
    empty = [sizes(kept=0)]
    assert coded_row(empty, 1, None, stage="x").bits_per_weight == 400
    assert huffman_row(empty, 1).bits_per_gap == 50
