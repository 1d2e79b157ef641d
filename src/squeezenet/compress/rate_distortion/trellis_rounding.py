"""Round the weights of one layer to codes, mostly on the trellis, with least distortion + λ bits.

J = distortion + λ * bits, in nats; distortion = tr(A E F E^T) / 2 of the errors E (O, P). Weights
are rounded one after another, and later weights compensate each error (error feedback): within an
output channel, as in GPTQ (arXiv 2210.17323), and from one output channel to those after it, as in
YAQA (arXiv 2505.22988). With U the upper Cholesky factor of F^-1, the distortion of an output is a
sum over its weights, exact at every weight:

    distortion = output curvature / 2 * sum over p of (what is left at p / U[p, p])^2.

Levels are on a trellis (``codec.trellis``), so an output is rounded by list Viterbi: the
``survivors`` cheapest paths of each trellis state go on. This is in C (``round_output``). The
cost of a path is exact, so more survivors never hurt. The same holds for several scales per output:
neighbouring scales round quite differently, and the cheapest is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from squeezenet._native import round_output
from squeezenet.codec.numerics import Float32Array, round_scales, scales_around
from squeezenet.codec.trellis import to_levels
from squeezenet.compress.rate_distortion.arrays import Float64Array, Levels
from squeezenet.compress.rate_distortion.bit_costs import (
    NUM_ACTIVITY_CLASSES,
    NUM_KERNEL_SUMS,
    NUM_PLACES,
    BitCosts,
)

DAMPING = 0.001
"""Share of the mean curvature that is added to the curvature of every input. GPTQ uses 0.01. On the
ImageNet network 0.0003 to 0.003 are within 1% (docs/experiments/trellis_and_rounding.md)."""
OUTPUT_BLOCK = 32
"""Outputs whose errors reach later outputs in one matrix product. It saves time, nothing else."""
MAX_SCALE_CHANGE = 0.5
"""Largest relative change of a scale after rounding. Beyond it, rounding has left too little of the
output to measure a scale by."""


def feedback(hessian_PP: Float64Array) -> Float64Array:
    """Return the upper Cholesky factor of the inverse of the damped Hessian.

    Row p is how an error at p moves the weights after it. The squared reciprocals of its diagonal
    are what an error at each place costs once later weights have compensated what they can.
    """
    upper_PP: Float64Array = np.linalg.cholesky(np.linalg.inv(damped(hessian_PP))).T
    return upper_PP


def damped(hessian_PP: Float64Array) -> Float64Array:
    """Return the Hessian with a share of its mean diagonal added to the diagonal."""
    damped_PP = hessian_PP.copy()
    mean = float(np.diag(hessian_PP).mean())
    damped_PP[np.diag_indices_from(damped_PP)] += DAMPING * max(mean, 1e-12)
    return damped_PP


@dataclass(frozen=True, kw_only=True, eq=False)
class InputCost:
    """What errors of the weights of an output cost between inputs: ``curvature_PP``."""

    curvature_PP: Float64Array

    @cached_property
    def feedback_PP(self) -> Float64Array:
        """``feedback`` of the curvature, contiguous."""
        return np.ascontiguousarray(feedback(self.curvature_PP))

    @cached_property
    def columns_PP(self) -> Float32Array:
        """Its transpose."""
        return np.ascontiguousarray(self.feedback_PP.T, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorCost:
    """What errors E (O, P) of the weights cost, in nats: tr(outputs E inputs E^T) / 2.

    ``of_output(o)``: the inputs' cost of one output, if each has its own; then the sum above is
    for their mean, and compensation between outputs takes them to be alike.
    """

    inputs: InputCost
    outputs_OO: Float64Array
    of_output: Callable[[int], InputCost] | None = None

    @cached_property
    def outputs_feedback_OO(self) -> Float64Array:
        """``feedback`` of the outputs' matrix."""
        return feedback(self.outputs_OO)

    @property
    def output_curvature_O(self) -> Float64Array:
        """What an error of each output costs once later outputs have compensated what they can."""
        curvature_O: Float64Array = np.diag(self.outputs_feedback_OO) ** -2.0
        return curvature_O

    def of(self, error_OP: Float64Array) -> Float64Array:
        """Return each output's part of the cost, (O,). Parts may be negative, their sum is not."""
        weighted_OP = self.outputs_OO @ error_OP @ self.inputs.curvature_PP
        parts_O: Float64Array = (weighted_OP * error_OP).sum(axis=1) / 2
        return parts_O


@dataclass(frozen=True, kw_only=True)
class SearchWidth:
    """How wide the search is.

    ``survivors``: paths kept per trellis state, 1 to 16. ``scales``: neighbouring scales tried per
    output, an odd number; the cheapest is kept.
    """

    survivors: int
    scales: int


NARROWEST = SearchWidth(survivors=1, scales=1)
"""Finds sizes in a fraction of the time. They are within 0.2% on the ImageNet network, and up to 3%
too large on CIFAR-10's (docs/experiments)."""


def round_layer(
    weight_OP: Float64Array,
    cost: ErrorCost,
    scales_O: Float64Array,
    bit_costs: BitCosts,
    classes_OIK: Levels,
    *,
    lambda_: float,
    width: SearchWidth,
    trellis: bool = True,
    pool: Executor | None = None,
) -> tuple[Levels, Float32Array]:
    """Return codes int64 (O, P) and scales float32 (O,): weight = level of the code * scale.

    ``scales_O``: the middle ones of the scales that are tried. The returned scale is the cheapest,
    then made unbiased. ``classes_OIK``: activity classes of the coder's contexts, from the round
    before. ``lambda_``: nats per bit. Without ``trellis``, codes are levels. ``pool``: threads that
    try the scales.
    """
    num_out, _, size = classes_OIK.shape
    between_OO = cost.outputs_feedback_OO
    assert weight_OP.shape == (num_out, len(cost.inputs.curvature_PP))
    expected_shape = (NUM_KERNEL_SUMS, NUM_PLACES, NUM_ACTIVITY_CLASSES)
    assert bit_costs.zero_SPC.shape == bit_costs.nonzero_SPC.shape == expected_shape
    tables = (
        np.ascontiguousarray(bit_costs.zero_SPC),
        np.ascontiguousarray(bit_costs.nonzero_SPC),
        np.ascontiguousarray(bit_costs.magnitude_CM),
    )
    classes_OP = np.ascontiguousarray(classes_OIK.reshape(num_out, -1), np.uint8)
    codes_OP = np.zeros(weight_OP.shape, np.int16)
    found_O = round_scales(scales_O)
    target_OP = np.array(
        weight_OP, np.float64, order="C"
    )  # weights less the errors fed back so far

    def try_scale(o: int, inputs: InputCost, scale: float) -> tuple[float, npt.NDArray[np.int16]]:
        codes_P = np.empty(weight_OP.shape[1], np.int16)
        nats = round_output(
            target_OP[o], inputs.feedback_PP, inputs.columns_PP, *tables, classes_OP[o], codes_P,
            between_OO[o, o] ** -2.0, scale, size, width.survivors, trellis, lambda_,
        )  # fmt: skip
        return nats, codes_P

    for start in range(0, num_out, OUTPUT_BLOCK):
        stop = min(start + OUTPUT_BLOCK, num_out)
        errors_BP = np.empty((stop - start, weight_OP.shape[1]))
        for o in range(start, stop):
            target_OP[o] -= between_OO[start:o, o] @ errors_BP[: o - start]
            inputs = cost.of_output(o) if cost.of_output else cost.inputs
            _ = inputs.columns_PP  # before threads share it
            scales = scales_around(float(scales_O[o]), width.scales).tolist()
            tried = (pool.map if pool else map)(partial(try_scale, o, inputs), scales)
            lowest = math.inf
            for scale, (nats, codes_P) in zip(scales, tried, strict=True):
                if nats < lowest:
                    lowest, found_O[o] = nats, scale
                    codes_OP[o] = codes_P
            levels = codes_OP[o].tolist()
            if trellis:
                to_levels(levels)
            levels_P = np.array(levels, np.float64)
            found_O[o] = unbiased_scale(
                target_OP[o], levels_P, inputs.curvature_PP, float(found_O[o])
            )
            error_P = target_OP[o] - levels_P * float(found_O[o])
            errors_BP[o - start] = error_P / between_OO[o, o]
        target_OP[stop:] -= between_OO[start:stop, stop:].T @ errors_BP
    return codes_OP.astype(np.int64), found_O


def unbiased_scale(
    weight_P: Float64Array, levels_P: Float64Array, inputs_PP: Float64Array, scale: float
) -> float:
    """Return the scale at which the error has no component along the weights.

    That is w F (w - scale * l) = 0 for weights w, levels l and curvature F of the inputs. ``scale``
    comes back if the levels are too few to tell.

    The scale of least error would leave the weights shorter, by the error's share, in every output
    and layer alike. Such errors add up over the layers (see ``scale_bias_correction``).
    """
    pull_P = inputs_PP @ weight_P
    along = float(pull_P @ levels_P)
    if along <= 0:
        return scale
    best = float(pull_P @ weight_P) / along
    if abs(best / scale - 1) >= MAX_SCALE_CHANGE:
        return scale
    return float(round_scales(np.array([best]))[0])
