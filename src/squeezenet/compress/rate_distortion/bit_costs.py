"""What levels cost in bits, by the contexts of the range coder (``codec.range_coder``).

bits = -log2(probability of the coder's binary decisions). The coder adapts its probabilities as it
goes. Here each context has one probability, the share of its decisions over the whole network,
which is what the coder approaches. The contexts depend on levels coded before. They are taken from
the levels of the round before, except for the sum within a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from squeezenet.codec.range_coder import TRACKED, activity_class, activity_of
from squeezenet.compress.rate_distortion.arrays import Float64Array, Levels

MAX_LEVEL = 127
"""Largest magnitude of a level: an int8 without -128."""
NUM_ACTIVITY_CLASSES = 16
NUM_KERNEL_SUMS = 16
NUM_PLACES = 9
"""Sizes of the coder's contexts (spec/FORMAT.md)."""
PSEUDO_COUNT = 0.4
"""Added to every count: near the 0.5 of Krichevsky and Trofimov's estimator. With it the bits of
whole layers are 4% under to 2% over those of the coder (tests/compress)."""
_CLASS_OF_ACTIVITY = np.array([activity_class(a) for a in range(1 << 14)], np.int64)
_ACTIVITY_OF_MAGNITUDE = np.array([activity_of(m) for m in range(MAX_LEVEL + 1)], np.int64)


def activity_classes(levels_OIK: Levels) -> Levels:
    """Return the class of the input channel's activity as the coder meets each level, OIK."""
    num_out, num_in, size = levels_OIK.shape
    added = _ACTIVITY_OF_MAGNITUDE[np.abs(levels_OIK)]
    shift = 4 if size == 1 else 5
    classes = np.empty(levels_OIK.shape, np.int64)
    activity = np.zeros(min(num_in, TRACKED), np.int64)
    for o in range(num_out):
        for start in range(0, num_in, TRACKED):
            stop = min(start + TRACKED, num_in)
            tracked = activity[: stop - start]
            for k in range(size):
                classes[o, start:stop, k] = _CLASS_OF_ACTIVITY[tracked]
                tracked += (added[o, start:stop, k] - tracked) >> shift
    return classes


def kernel_sums(levels_OIK: Levels) -> Levels:
    """Return the coder's sum of what precedes each level in its kernel, 0 to 15, OIK."""
    weight = np.minimum(np.abs(levels_OIK), 2)
    sums: Levels = np.minimum(np.cumsum(weight, axis=2) - weight, NUM_KERNEL_SUMS - 1)
    return sums


@dataclass(frozen=True, kw_only=True, eq=False)
class BitCosts:
    """Bits of a zero, of being non-zero, and of a magnitude with its sign; float64.

    ``zero_SPC`` and ``nonzero_SPC``: 16 kernel sums x 9 places x 16 activity classes (1x1: sum and
    place are 0). ``magnitude_CM``: activity classes x magnitudes 0 to 127 (0 costs nothing here).
    """

    zero_SPC: Float64Array
    nonzero_SPC: Float64Array
    magnitude_CM: Float64Array

    @staticmethod
    def count(layers: list[Levels]) -> BitCosts:
        """Count the contexts of layers of one kind, OIK each: all 1x1, or none."""
        counts = np.full((2, NUM_KERNEL_SUMS, NUM_PLACES, NUM_ACTIVITY_CLASSES), PSEUDO_COUNT)
        magnitudes = np.zeros((NUM_ACTIVITY_CLASSES, MAX_LEVEL + 1))
        for levels_OIK in layers:
            classes = activity_classes(levels_OIK)
            sums, places = context_places(levels_OIK)
            nonzero = (levels_OIK != 0).astype(np.int64)
            np.add.at(counts, (nonzero, sums, places, classes), 1.0)
            np.add.at(magnitudes, (classes, np.abs(levels_OIK)), 1.0)
        if any(levels.shape[2] > 1 for levels in layers):
            # The coder's spatial contexts pool two neighbouring activity classes.
            pairs = counts.reshape(
                2, NUM_KERNEL_SUMS, NUM_PLACES, NUM_ACTIVITY_CLASSES // 2, 2
            ).sum(axis=4)
            counts = np.repeat(pairs, 2, axis=3)
        bits = -np.log2(counts / counts.sum(axis=0))
        return BitCosts(
            zero_SPC=bits[0], nonzero_SPC=bits[1], magnitude_CM=_magnitude_bits(magnitudes)
        )


def network_bit_costs(levels: Mapping[str, Levels]) -> dict[bool, BitCosts]:
    """Return the costs in a network of these levels, OIK each: True for 1x1, False for others."""
    return {
        is_1x1: BitCosts.count([v for v in levels.values() if (v.shape[2] == 1) == is_1x1])
        for is_1x1 in (False, True)
    }


def context_places(levels_OIK: Levels) -> tuple[Levels, Levels]:
    """Return kernel sums and places 0 to 8, OIK each; both are 0 for 1x1."""
    size = levels_OIK.shape[2]
    if size == 1:
        return np.zeros_like(levels_OIK), np.zeros_like(levels_OIK)
    places = NUM_PLACES * np.arange(size) // size
    return kernel_sums(levels_OIK), np.broadcast_to(places, levels_OIK.shape)


def _magnitude_bits(counts_CM: Float64Array) -> Float64Array:
    """Bits of the sign, the exponent e = floor(log2 magnitude), and the e bits after the first.

    The exponent is coded in unary, with a context per place and activity class. The other bits go
    down a binary tree with a context per node.
    """
    bits_CM = np.ones_like(counts_CM)  # the sign
    magnitudes = np.arange(MAX_LEVEL + 1)
    exponent = np.concatenate([[0], np.floor(np.log2(magnitudes[1:]))]).astype(int)
    for j in range(7):
        more = counts_CM[:, exponent > j].sum(axis=1) + PSEUDO_COUNT
        stop = counts_CM[:, (exponent == j) & (magnitudes > 0)].sum(axis=1) + PSEUDO_COUNT
        bits_CM[:, exponent > j] -= np.log2(more / (more + stop))[:, None]
        if j < 6:
            bits_CM[:, exponent == j] -= np.log2(stop / (more + stop))[:, None]
    total = counts_CM.sum(axis=0)
    for e in range(1, 7):
        for depth in range(e):
            # A node of the tree: all magnitudes that share their first depth + 1 bits.
            width = 1 << (e - depth)
            for first in range(1 << e, 2 << e, width):
                half = width // 2
                low = total[first : first + half].sum() + PSEUDO_COUNT
                high = total[first + half : first + width].sum() + PSEUDO_COUNT
                bits_CM[:, first : first + half] -= np.log2(low / (low + high))
                bits_CM[:, first + half : first + width] -= np.log2(high / (low + high))
    bits_CM[:, 0] = 0.0
    return bits_CM
