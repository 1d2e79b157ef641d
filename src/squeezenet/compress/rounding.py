"""Weights -> codes, mostly on the trellis, of least distortion plus bits.

One input after another is rounded, and the error of each is made good by the inputs still to come
(GPTQ, arXiv 2210.17323). As levels are on a trellis (``codec.trellis``), not one way of rounding
goes on but the cheapest few in each of its states: list Viterbi, in C
(``runtime/python/rounding.c``). What a way costs is exact, so that more of them are always better.

Legend: O output channels, I input channels of a group, K kernel positions, P = I x K.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeezenet._native import round_layer as _round_layer
from squeezenet.compress.rates import NUM_CLASSES, Levels, Rates

Float64Array = npt.NDArray[np.float64]

_DAMPING = 0.001
"""Share of the mean curvature that is added to every input's own (arXiv 2210.17323, which has ten
times as much)."""


def feedback(hessian_PP: Float64Array) -> Float64Array:
    """Return the upper Cholesky factor of the inverse Hessian: how the error at one input moves
    the inputs after it. The squares of its diagonal, inverted, are what an error at each input
    costs when the later inputs have made good what they can."""
    damped = hessian_PP.copy()
    diagonal = np.diag(hessian_PP)
    damped[np.diag_indices_from(damped)] += _DAMPING * max(float(diagonal.mean()), 1e-12)
    upper_PP: Float64Array = np.linalg.cholesky(np.linalg.inv(damped)).T
    return upper_PP


def round_layer(
    weight_OP: Float64Array,
    upper_PP: Float64Array,
    gain_O: Float64Array,
    steps_O: Float64Array,
    rates: Rates,
    classes_OIK: Levels,
    *,
    nats_a_bit: float,
    paths: int,
    trellis: bool = True,
) -> Levels:
    """Return codes (O, P); a code's level times its output's step stands for a weight.
    ``trellis`` False: codes are levels.

    ``upper_PP`` as ``feedback`` gives it; ``gain_O``: what the Hessian counts for each output;
    ``classes_OIK``: the contexts' activity classes, from codes tried before; ``paths``: how many
    go on in each state, 1 to 16.
    """
    num_out, _, size = classes_OIK.shape
    assert weight_OP.shape == (num_out, len(upper_PP))
    assert rates.zero_SPC.shape == rates.nonzero_SPC.shape == (16, 9, NUM_CLASSES)
    codes_OP = np.empty(weight_OP.shape, np.int16)

    def doubles(array: npt.NDArray[np.generic]) -> Float64Array:
        return np.ascontiguousarray(array, np.float64)

    _round_layer(
        doubles(weight_OP),
        doubles(upper_PP),
        doubles(gain_O),
        doubles(steps_O),
        doubles(rates.zero_SPC),
        doubles(rates.nonzero_SPC),
        doubles(rates.magnitude_CM),
        np.ascontiguousarray(classes_OIK, np.uint8),
        codes_OP,
        size,
        paths,
        trellis,
        nats_a_bit,
    )
    return codes_OP.astype(np.int64)
