"""Weights -> integer levels of least distortion plus bits.

``round_layer`` goes from weights to levels, one input after another: the error of each is made
good by the inputs still to come (GPTQ, arXiv 2210.17323). ``descend_layer`` improves levels that
are there, one input after another: it takes whatever step lowers the sum.

Legend: O output channels, I input channels of a group, K kernel positions, P = I x K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.compress.rates import MOST, Bits, Levels, Rates

Float64Array = npt.NDArray[np.float64]

_DAMPING = 0.01
"""Share of the mean curvature that is added to every input's own (arXiv 2210.17323)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Feedback:
    """How a layer's error at one input moves the inputs after it.

    ``order_P``: the inputs in the order of work, channels of much curvature first, a kernel's
    positions together. ``upper_PP``: the upper Cholesky factor of the inverse Hessian in it.
    """

    order_P: npt.NDArray[np.int64]
    upper_PP: Float64Array

    @staticmethod
    def of(hessian_PP: Float64Array, size: int) -> Feedback:
        """Work it out for kernels of ``size`` positions."""
        diagonal = np.diag(hessian_PP)
        channels = np.argsort(-diagonal.reshape(-1, size).sum(axis=1), kind="stable")
        order_P = (channels[:, None] * size + np.arange(size)).reshape(-1)
        damped = hessian_PP[np.ix_(order_P, order_P)].copy()
        damped[np.diag_indices_from(damped)] += _DAMPING * max(float(diagonal.mean()), 1e-12)
        return Feedback(order_P=order_P, upper_PP=np.linalg.cholesky(np.linalg.inv(damped)).T)

    @property
    def curvature_P(self) -> Float64Array:
        """What an error at each input costs when the later inputs have made good what they can,
        in the order of work."""
        result: Float64Array = 1 / np.diag(self.upper_PP) ** 2
        return result


def round_layer(
    weight_OP: Float64Array,
    feedback: Feedback,
    gain_O: Float64Array,
    steps_O: Float64Array,
    rates: Rates,
    classes_OIK: Levels,
    *,
    nats_a_bit: float,
) -> Levels:
    """Return levels (O, P) for weights; level * step stands for a weight.

    ``classes_OIK`` are the contexts' activity classes, from levels tried before.
    """
    num_out, _, size = classes_OIK.shape
    classes_OP = classes_OIK.reshape(num_out, -1)
    left_OP = weight_OP[:, feedback.order_P].copy()
    levels_OP = np.zeros(weight_OP.shape, np.int64)
    diagonal = np.diag(feedback.upper_PP)
    half_gain_O = gain_O / 2 * steps_O**2
    sums_O = np.zeros(num_out, np.int64)
    for j, p in enumerate(feedback.order_P):
        k = int(p) % size
        if k == 0:
            sums_O = np.zeros(num_out, np.int64)
        place = 9 * k // size if size > 1 else 0
        classes_O = classes_OP[:, p]
        scaled_O = left_OP[:, j] / steps_O
        nearest = np.rint(scaled_O).clip(-MOST, MOST).astype(np.int64)
        weight = half_gain_O / diagonal[j] ** 2
        nonzero = rates.nonzero_SPC[sums_O, place, classes_O]
        best = np.zeros(num_out, np.int64)
        cost = weight * scaled_O**2 + nats_a_bit * rates.zero_SPC[sums_O, place, classes_O]
        for candidate in (nearest - np.sign(nearest), nearest):
            bits = nonzero + rates.magnitude_CM[classes_O, np.abs(candidate)]
            other = weight * (scaled_O - candidate) ** 2 + nats_a_bit * bits
            better = (other < cost) & (candidate != 0)
            best = np.where(better, candidate, best)
            cost = np.where(better, other, cost)
        levels_OP[:, p] = best
        error_O = (left_OP[:, j] - best * steps_O) / diagonal[j]
        left_OP[:, j + 1 :] -= error_O[:, None] * feedback.upper_PP[j, j + 1 :]
        if size > 1:
            sums_O = np.minimum(sums_O + np.minimum(np.abs(best), 2), 15)
    return levels_OP


def descend_layer(
    levels_OP: Levels,
    slope_OP: Float64Array,
    hessian_PP: Float64Array,
    gain_O: Float64Array,
    steps_O: Float64Array,
    rates: Rates,
    classes_OIK: Levels,
    *,
    nats_a_bit: float,
) -> Levels:
    """Return levels of no more distortion plus bits: each may go up, down, or to zero.

    ``slope_OP`` is how the distortion grows with each weight where the levels stand now, in nats;
    a change d of output o adds d . slope + gain * d^T H d / 2.
    """
    num_out, _, size = classes_OIK.shape
    classes_OP = classes_OIK.reshape(num_out, -1)
    levels_OP = levels_OP.copy()
    slope_OP = slope_OP.copy()
    sums_O = np.zeros(num_out, np.int64)
    for p in range(levels_OP.shape[1]):
        k = p % size
        if k == 0:
            sums_O = np.zeros(num_out, np.int64)
        place = 9 * k // size if size > 1 else 0
        classes_O = classes_OP[:, p]
        now = levels_OP[:, p]
        linear_O = slope_OP[:, p] * steps_O
        half_square_O = gain_O / 2 * steps_O**2 * hessian_PP[p, p]
        zero = rates.zero_SPC[sums_O, place, classes_O]
        nonzero = rates.nonzero_SPC[sums_O, place, classes_O]

        least = nats_a_bit * _bits(now, zero, nonzero, rates.magnitude_CM, classes_O)
        best = now
        for candidate in (now + 1, now - 1, np.zeros_like(now)):
            move = candidate - now
            inside = candidate.clip(-MOST, MOST)
            bits = _bits(inside, zero, nonzero, rates.magnitude_CM, classes_O)
            cost = linear_O * move + half_square_O * move**2 + nats_a_bit * bits
            better = (cost < least) & (candidate == inside)
            best = np.where(better, candidate, best)
            least = np.where(better, cost, least)
        moved = np.flatnonzero(best != now)
        if moved.size:
            change = (best - now)[moved] * steps_O[moved] * gain_O[moved]
            slope_OP[moved] += change[:, None] * hessian_PP[p]
            levels_OP[:, p] = best
        if size > 1:
            sums_O = np.minimum(sums_O + np.minimum(np.abs(best), 2), 15)
    return levels_OP


def _bits(
    level_O: Levels, zero_O: Bits, nonzero_O: Bits, magnitude_CM: Bits, classes_O: Levels
) -> Bits:
    magnitude_O = magnitude_CM[classes_O, np.abs(level_O)]
    bits_O: Bits = np.where(level_O == 0, zero_O, nonzero_O + magnitude_O)
    return bits_O
