"""Bit costs are those of the range coder's contexts, recorded here from the coder in Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from squeezenet.codec.range_coder import SIGN, ZERO_SPATIAL, Encoder
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.types import CompressedLayer, LevelWeights
from squeezenet.compress.rate_distortion.bit_costs import (
    PSEUDO_COUNT,
    BitCosts,
    activity_classes,
    context_places,
    network_bit_costs,
)
from tests.compress.conftest import levels_of


class Recorder(Encoder):
    """Codes nothing, and records the contexts of each level's decisions."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: list[list[tuple[int, bool]]] = []

    def bit(self, context: int, bit: bool = False) -> bool:
        if context < SIGN:
            self.decisions.append([])
        if not SIGN <= context < SIGN + 2 * 16 * 9:  # signs are taken to cost one bit
            self.decisions[-1].append((context, bool(bit)))
        return bool(bit)


def bits_by_coder(levels_OIK: np.ndarray, side: int) -> np.ndarray:
    """Bits of each level, OIK, if each context has one probability for all its decisions."""
    recorder = Recorder()
    recorder.begin(levels_OIK.shape[1], side, side)
    for row in levels_OIK:
        recorder.channel(row.reshape(-1).tolist())
    counts = Counter(decision for level in recorder.decisions for decision in level)
    pooled = 2 if side > 1 else 1  # classes pooled in a context of zeros, with a prior each

    def bits(context: int, bit: bool) -> float:
        prior = PSEUDO_COUNT * (pooled if context < SIGN else 1)
        zeros, ones = counts[context, False] + prior, counts[context, True] + prior
        return float(-np.log2((ones if bit else zeros) / (zeros + ones)))

    found = [
        sum(bits(*decision) for decision in level) + (len(level) > 1 or level[0][1])
        for level in recorder.decisions
    ]
    return np.array(found).reshape(levels_OIK.shape)


def bits_by_table(costs: BitCosts, levels_OIK: np.ndarray) -> np.ndarray:
    classes = activity_classes(levels_OIK)
    sums, places = context_places(levels_OIK)
    return np.where(
        levels_OIK == 0,
        costs.zero_SPC[sums, places, classes],
        costs.nonzero_SPC[sums, places, classes] + costs.magnitude_CM[classes, np.abs(levels_OIK)],
    )


@pytest.mark.parametrize(
    ("shape", "side", "spread"),
    [
        ((24, 20, 1), 1, 12.0),
        ((5, 530, 1), 1, 1.0),  # more input channels than the coder tracks
        ((20, 6, 9), 3, 0.7),
        ((20, 6, 9), 3, 30.0),
        ((6, 2, 25), 5, 1.0),
    ],
)
def test_costs_are_those_of_the_coders_contexts(
    shape: tuple[int, int, int], side: int, spread: float
) -> None:
    levels_OIK = levels_of(shape, spread)
    # From 64 on the coder decides whether there is a seventh bit, which levels never have.
    levels_OIK = levels_OIK.clip(-63, 63)
    costs = BitCosts.count([levels_OIK])
    found, wanted = bits_by_table(costs, levels_OIK), bits_by_coder(levels_OIK, side)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert not costs.magnitude_CM[:, 0].any()


def test_the_largest_levels_need_no_seventh_exponent_bit() -> None:
    levels_OIK = np.full((4, 2, 1), 127)
    costs = BitCosts.count([levels_OIK])
    classes = activity_classes(levels_OIK)
    assert classes.max() > 8
    tree = -6 * np.log2((8 + PSEUDO_COUNT) / (8 + 2 * PSEUDO_COUNT))
    for c in set(classes.ravel().tolist()):
        n = int((classes == c).sum())
        exponent = -6 * np.log2((n + PSEUDO_COUNT) / (n + 2 * PSEUDO_COUNT))
        assert costs.magnitude_CM[c, 127] == pytest.approx(1 + exponent + tree, rel=1e-9)


def test_layers_are_counted_together_and_1x1_apart() -> None:
    a, b = levels_of((8, 4, 1), 1.0), levels_of((6, 4, 1), 2.0, seed=1)
    c = levels_of((4, 3, 9), 0.7, seed=2)
    costs = network_bit_costs({"a": a, "c": c, "b": b})
    for found, wanted in ((costs[True], [a, b]), (costs[False], [c])):
        same = BitCosts.count(wanted)
        np.testing.assert_array_equal(found.zero_SPC, same.zero_SPC)
        np.testing.assert_array_equal(found.magnitude_CM, same.magnitude_CM)
    one = BitCosts.count([a]).zero_SPC
    assert (one != costs[True].zero_SPC).any()


def test_costs_are_what_the_adaptive_coder_spends() -> None:
    for shape, side, spread in (((96, 64, 1), 1, 1.5), ((64, 48, 9), 3, 0.6)):
        levels_OIK = levels_of(shape, spread)
        bits = bits_by_table(BitCosts.count([levels_OIK]), levels_OIK).sum()
        levels_OIHW = levels_OIK.reshape(*shape[:2], side, side).astype(np.int8)
        ones = np.ones(shape[0], np.float32)
        layer = CompressedLayer(
            name="x",
            weights=LevelWeights(levels_OIHW=levels_OIHW, scales_O=ones),
            bias_O=0 * ones,
        )
        # The coder pays for learning, too.
        assert 0.96 < bits / 8 / len(encode_weights([layer])) < 1.02


def test_spatial_contexts_pool_two_classes() -> None:
    costs = BitCosts.count([levels_of((20, 6, 9), 0.7)])
    np.testing.assert_array_equal(costs.zero_SPC[..., ::2], costs.zero_SPC[..., 1::2])
    costs = BitCosts.count([levels_of((96, 64, 1), 1.5)])
    assert (costs.zero_SPC[0, 0, ::2] != costs.zero_SPC[0, 0, 1::2]).any()
    assert ZERO_SPATIAL == 16
