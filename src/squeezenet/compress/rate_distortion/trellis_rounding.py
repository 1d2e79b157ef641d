"""Weights -> codes, mostly on the trellis, of least distortion plus bits.

One weight after another is rounded, and the error of each is made good by the weights still to
come: within an output channel, as in GPTQ (arXiv 2210.17323), and from one output channel to those
after it, as in YAQA (arXiv 2505.22988). As levels are on a trellis (``codec.trellis``), not one way
of rounding an output goes on but the cheapest few in each of its states: list Viterbi, in C
(``runtime/python/rounding.c``). What a way costs is exact, so that more of them are always better,
and so are more steps to choose from: neighbouring ones round quite differently.

Legend: O output channels, I input channels of a group, K kernel positions, P = I x K.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from squeezenet._native import round_output
from squeezenet.codec.numerics import Float32Array, round_scales, scales_around
from squeezenet.codec.trellis import to_levels
from squeezenet.compress.rate_distortion.bit_costs import NUM_CLASSES, Levels, Rates

Float64Array = npt.NDArray[np.float64]

_DAMPING = 0.001
"""Share of the mean curvature that is added to every input's own (arXiv 2210.17323, which has ten
times as much)."""
_BLOCK = 32
"""Outputs whose errors reach the outputs after them in one product of matrices."""
_RESCALE = 0.5
"""Scales that would change more than this are those of outputs of which little is left."""


def feedback(hessian_PP: Float64Array) -> Float64Array:
    """Return the upper Cholesky factor of the inverse Hessian: how the error at one place moves
    the places after it. The squares of its diagonal, inverted, are what an error at each place
    costs when the later ones have made good what they can."""
    damped = hessian_PP.copy()
    diagonal = np.diag(hessian_PP)
    damped[np.diag_indices_from(damped)] += _DAMPING * max(float(diagonal.mean()), 1e-12)
    upper_PP: Float64Array = np.linalg.cholesky(np.linalg.inv(damped)).T
    return upper_PP


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorCost:
    """What errors E (O, P) of a layer's weights cost, in nats: tr(outputs E inputs E^T) / 2;
    ``inputs_feedback_PP`` is ``feedback`` of the inputs' matrix."""

    inputs_PP: Float64Array
    inputs_feedback_PP: Float64Array
    outputs_OO: Float64Array

    @cached_property
    def outputs_feedback_OO(self) -> Float64Array:
        return feedback(self.outputs_OO)

    @property
    def gain_O(self) -> Float64Array:
        """What an error of each output costs when the outputs after it make good what they can."""
        gain_O: Float64Array = np.diag(self.outputs_feedback_OO) ** -2.0
        return gain_O

    def among(self, chosen_O: npt.NDArray[np.bool_]) -> ErrorCost:
        """The costs where only those outputs may have errors."""
        if chosen_O.all():
            return self
        return dataclasses.replace(self, outputs_OO=self.outputs_OO[np.ix_(chosen_O, chosen_O)])

    def of(self, error_OP: Float64Array) -> Float64Array:
        """Each output's part of the cost, (O,); parts may be negative, the sum is not."""
        parts_O: Float64Array = ((self.outputs_OO @ error_OP @ self.inputs_PP) * error_OP).sum(
            axis=1
        ) / 2
        return parts_O


@dataclass(frozen=True, kw_only=True)
class Breadth:
    """How many ways of rounding are tried: ``paths`` go on in each state of the trellis, 1 to 16,
    and of ``steps`` neighbouring ones, an odd number, each output gets the cheapest."""

    paths: int
    steps: int


NARROW = Breadth(paths=1, steps=1)
"""Tells sizes in a fraction of the time: within 0.2% on v1.0, up to 3% too large on CIFAR-10."""


def round_layer(
    weight_OP: Float64Array,
    cost: ErrorCost,
    steps_O: Float64Array,
    rates: Rates,
    classes_OIK: Levels,
    *,
    nats_a_bit: float,
    breadth: Breadth,
    trellis: bool = True,
) -> tuple[Levels, Float32Array]:
    """Return codes (O, P) and scales (O,); a code's level times its output's scale stands for a
    weight. ``trellis`` False: codes are levels.

    ``steps_O``: the middle ones of the steps that are tried; scales differ from the step that was
    chosen by what mends the output. ``classes_OIK``: the contexts' activity classes, from codes
    tried before.
    """
    num_out, _, size = classes_OIK.shape
    upper_PP = np.ascontiguousarray(cost.inputs_feedback_PP)
    between_OO = cost.outputs_feedback_OO
    assert weight_OP.shape == (num_out, len(upper_PP))
    assert rates.zero_SPC.shape == rates.nonzero_SPC.shape == (16, 9, NUM_CLASSES)
    columns_PP = np.ascontiguousarray(upper_PP.T, np.float32)
    tables = (
        np.ascontiguousarray(rates.zero_SPC),
        np.ascontiguousarray(rates.nonzero_SPC),
        np.ascontiguousarray(rates.magnitude_CM),
    )
    classes_OP = np.ascontiguousarray(classes_OIK.reshape(num_out, -1), np.uint8)
    codes_OP, codes_P = np.zeros(weight_OP.shape, np.int16), np.empty(len(upper_PP), np.int16)
    scales_O = round_scales(steps_O)
    left_OP = np.array(weight_OP, np.float64)
    for start in range(0, num_out, _BLOCK):
        stop = min(start + _BLOCK, num_out)
        errors_BP = np.empty((stop - start, weight_OP.shape[1]))
        for o in range(start, stop):
            left_OP[o] -= between_OO[start:o, o] @ errors_BP[: o - start]
            least = math.inf
            for step in scales_around(float(steps_O[o]), breadth.steps).tolist():
                nats = round_output(
                    left_OP[o], upper_PP, columns_PP, *tables, classes_OP[o], codes_P,
                    between_OO[o, o] ** -2.0, step, size, breadth.paths, trellis, nats_a_bit,
                )  # fmt: skip
                if nats < least:
                    least, scales_O[o] = nats, step
                    codes_OP[o] = codes_P
            levels = codes_OP[o].tolist()
            if trellis:
                to_levels(levels)
            levels_P = np.array(levels, np.float64)
            scales_O[o] = _mended_scale(left_OP[o], levels_P, cost.inputs_PP, float(scales_O[o]))
            errors_BP[o - start] = (left_OP[o] - levels_P * float(scales_O[o])) / between_OO[o, o]
        left_OP[stop:] -= between_OO[start:stop, stop:].T @ errors_BP
    return codes_OP.astype(np.int64), scales_O


def _mended_scale(
    weight_P: Float64Array, levels_P: Float64Array, inputs_PP: Float64Array, scale: float
) -> float:
    """The scale at which the error is none along the weights themselves.

    That of least error would leave the weights shorter, by the error's share; in every output
    and layer alike, which adds up (see ``gains``).
    """
    pull_P = inputs_PP @ weight_P
    along = float(pull_P @ levels_P)
    if along <= 0:
        return scale
    best = float(pull_P @ weight_P) / along
    if abs(best / scale - 1) >= _RESCALE:
        return scale
    return float(round_scales(np.array([best]))[0])
