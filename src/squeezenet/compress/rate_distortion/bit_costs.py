"""What levels cost in the range coder's contexts, in bits: the model of ``codec.coder``, counted.

The coder adapts as it goes; here each context has one chance, that of all its bits so far, which
is what the coder comes to. Sequential as the coder's contexts are, they are taken from the last
levels that were tried, all but the sum within a kernel.
Legend: O output channels, I input channels of a group, K kernel positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.codec.range_coder import TRACKED, activity_class, activity_of

Levels = npt.NDArray[np.int64]
Bits = npt.NDArray[np.float64]

MOST = 127
NUM_CLASSES = 16
_PRIOR = 0.4
_CLASSES = np.array([activity_class(a) for a in range(1 << 14)], np.int64)
_ACTIVITY = np.array([activity_of(m) for m in range(MOST + 1)], np.int64)


def activity_classes(levels_OIK: Levels) -> Levels:
    """Return the class of the input channel's activity as the coder meets each level."""
    num_out, num_in, size = levels_OIK.shape
    added = _ACTIVITY[np.abs(levels_OIK)]
    shift = 4 if size == 1 else 5
    classes = np.empty(levels_OIK.shape, np.int64)
    activity = np.zeros(min(num_in, TRACKED), np.int64)
    for o in range(num_out):
        for start in range(0, num_in, TRACKED):
            stop = min(start + TRACKED, num_in)
            part = activity[: stop - start]
            for k in range(size):
                classes[o, start:stop, k] = _CLASSES[part]
                part += (added[o, start:stop, k] - part) >> shift
    return classes


def kernel_sums(levels_OIK: Levels) -> Levels:
    """Return 0..15: how much stands before each level in its kernel."""
    weight = np.minimum(np.abs(levels_OIK), 2)
    sums: Levels = np.minimum(np.cumsum(weight, axis=2) - weight, 15)
    return sums


@dataclass(frozen=True, kw_only=True, eq=False)
class Rates:
    """Bits of a zero and of a non-zero, and of magnitudes with their sign.

    ``zero_SPC``: kernel sums x 9 places x classes (1x1: sum and place 0), ``nonzero_SPC``
    likewise; ``magnitude_CM``: classes x magnitudes 0..127 (0 costs nothing here).
    """

    zero_SPC: Bits
    nonzero_SPC: Bits
    magnitude_CM: Bits

    @staticmethod
    def of(layers: list[Levels]) -> Rates:
        """Count the contexts of layers of one kind (all 1x1, or none)."""
        counts = np.full((2, 16, 9, NUM_CLASSES), _PRIOR)
        magnitudes = np.zeros((NUM_CLASSES, MOST + 1))
        for levels_OIK in layers:
            classes = activity_classes(levels_OIK)
            sums, places = context_places(levels_OIK)
            nonzero = (levels_OIK != 0).astype(np.int64)
            np.add.at(counts, (nonzero, sums, places, classes), 1.0)
            np.add.at(magnitudes, (classes, np.abs(levels_OIK)), 1.0)
        # The coder shares spatial contexts between two classes.
        if any(levels.shape[2] > 1 for levels in layers):
            pairs = counts.reshape(2, 16, 9, NUM_CLASSES // 2, 2).sum(axis=4)
            counts = np.repeat(pairs, 2, axis=3)
        bits = -np.log2(counts / counts.sum(axis=0))
        return Rates(
            zero_SPC=bits[0], nonzero_SPC=bits[1], magnitude_CM=_magnitude_bits(magnitudes)
        )


def rates_of(levels: Mapping[str, Levels]) -> dict[bool, Rates]:
    """Return the rates of a network's levels, each (O, I, K): True of 1x1, False of others."""
    return {
        single: Rates.of([v for v in levels.values() if (v.shape[2] == 1) == single])
        for single in (False, True)
    }


def context_places(levels_OIK: Levels) -> tuple[Levels, Levels]:
    """Return kernel sums and places 0..8; both 0 for 1x1."""
    size = levels_OIK.shape[2]
    if size == 1:
        return np.zeros_like(levels_OIK), np.zeros_like(levels_OIK)
    places = 9 * np.arange(size) // size
    return kernel_sums(levels_OIK), np.broadcast_to(places, levels_OIK.shape)


def _magnitude_bits(counts_CM: Bits) -> Bits:
    """Bits of sign, number of bits and rest, by the coder's binary decisions."""
    bits_CM = np.ones_like(counts_CM)  # the sign
    number = np.concatenate([[0], np.floor(np.log2(np.arange(1, MOST + 1)))]).astype(int)
    for j in range(7):
        more = counts_CM[:, number > j].sum(axis=1) + _PRIOR
        less = counts_CM[:, (number == j) & (np.arange(MOST + 1) > 0)].sum(axis=1) + _PRIOR
        reached = number >= j
        bits_CM[:, reached & (number > j)] -= np.log2(more / (more + less))[:, None]
        if j < 6:
            bits_CM[:, number == j] -= np.log2(less / (more + less))[:, None]
    total = counts_CM.sum(axis=0)
    for e in range(1, 7):
        for depth in range(e):
            # Nodes of the tree of e bits: all magnitudes that share their first depth + 1 bits.
            width = 1 << (e - depth)
            for first in range(1 << e, 2 << e, width):
                half = width // 2
                low = total[first : first + half].sum() + _PRIOR
                high = total[first + half : first + width].sum() + _PRIOR
                bits_CM[:, first : first + half] -= np.log2(low / (low + high))
                bits_CM[:, first + half : first + width] -= np.log2(high / (low + high))
    bits_CM[:, 0] = 0.0
    return bits_CM
