"""Search for the levels of one convolution: scales from its curvature, then rounding.

Where rounding is fine, a scale of sqrt(12 λ / (ln 2 * curvature)) balances nats and bits
(``grid_spacing``). On the trellis a weight can have every other level only, so scales are about
half of that. Groups of a convolution are independent layers side by side.
"""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import Executor
from functools import cached_property

import numpy as np

from squeezenet.arch.graph import Conv
from squeezenet.codec.numerics import Float32Array, round_scales
from squeezenet.compress.number_range import MAX_BIAS_UNITS
from squeezenet.compress.rate_distortion.arrays import Float64Array, Levels
from squeezenet.compress.rate_distortion.bit_costs import BitCosts
from squeezenet.compress.rate_distortion.curvature import TINY, Curvature
from squeezenet.compress.rate_distortion.layer_inputs import LayerInputs
from squeezenet.compress.rate_distortion.quantized_network import QuantizedLayer
from squeezenet.compress.rate_distortion.trellis_rounding import (
    ErrorCost,
    InputCost,
    SearchWidth,
    damped,
    round_layer,
)

SCALE_FACTOR = 0.46
"""Scale on the trellis, as a share of the balanced grid spacing; twice as much without a trellis.
The predicted KL at equal bytes is within 1% at 0.42 and 0.51, and 3.5% higher at 0.58
(docs/experiments)."""
MAX_START_LEVEL = 115
"""A scale is at least the largest weight over this, which leaves error feedback room below 127."""
MOMENT_MIX = 0.35
"""Share of the inputs' second moment in F. Images do not span all directions, and rounding would
put its errors into those they do not: the last layer did. Measured KL at equal bytes: 0.15 and 0.3
differ by 1%, and 0.5 is 3% lower to 11% higher (docs/experiments/trellis_and_rounding.md)."""
MEAN_CURVATURE_MIX = 0.85
"""Share of the layer's mean in each output's curvature, which few images measure badly. 0.4 has 12%
more measured KL at equal bytes, 0.7 has 2% more (docs/experiments)."""
OUTPUT_SHRINKAGE = 0.5
"""Shrinkage of the output Fisher's off-diagonal entries (0 = trust fully). One matrix for all
images overstates them. On CIFAR-10: KL 0.042 at 0.5, 0.048 at 0.3, 0.083 at 0.1, 0.073 at 1
(docs/experiments)."""
MIN_CURVATURE = 1e-3
"""Smallest curvature of an output, as a share of the layer's mean."""
CLASS_MIX = 0.3
"""Share of a class's own curvature in the last layer. On v1.1 at 243,860 bytes 0.3 and 0.4 leave a
fifth less divergence than none, 0.1 and 0.2 an eighth (docs/experiments/sequential_rounding.md)."""
DEAD_ZONE = 0.65
"""Codes to start with are rounded up only from this fraction on, as a λ above 0 would round."""
INPUT_SCALES_PER_RMS = 1020
"""An activation scale is at least the largest input / 1020: 255 steps over a quarter of the range
(``calibrate.RANGE_SHARES``). The largest input is at least their root mean square."""
MAX_CODE = 63
"""Largest code on the trellis: levels of 126 and less fit an int8."""


class LayerSearch:
    """The weights of one convolution, and what errors in them cost."""

    def __init__(
        self,
        conv: Conv,
        trellis: bool,
        weight_OIHW: Float32Array,
        bias_O: Float32Array,
        curvature: Curvature,
        class_roots_ORP: Float32Array | None = None,
    ) -> None:
        """``class_roots_ORP``: of a last layer, ``class_fisher``."""
        self.trellis = trellis
        self._class_roots_ORP = class_roots_ORP
        self.weight_shape = conv.weight_shape
        self.weight_OP = weight_OIHW.reshape(self.weight_shape[0], -1).astype(np.float64)
        self.bias_O = bias_O.astype(np.float64)
        self._mean_GP = curvature.mean_GP
        squares_GP = np.diagonal(curvature.moment_GPP, axis1=1, axis2=2)
        self._input_rms = math.sqrt(float(squares_GP.mean()))
        group_outputs = self.weight_shape[0] // conv.groups
        self._outputs = [
            slice(g * group_outputs, (g + 1) * group_outputs) for g in range(conv.groups)
        ]
        self._costs, self._bias_curvature = [], 0.0
        for g in range(conv.groups):
            fisher, moment = curvature.fisher_GPP[g], curvature.moment_GPP[g]
            # Nats per squared unit of an input that is always 1: that of a bias.
            share = float(np.trace(fisher) / max(np.trace(moment), TINY))
            inputs_PP = (1 - MOMENT_MIX) * fisher + MOMENT_MIX * share * moment
            cost = ErrorCost(
                inputs=InputCost(curvature_PP=inputs_PP),
                outputs_OO=shrunk_fisher(curvature.output_GQQ[g]),
            )
            _ = cost.inputs.feedback_PP  # fails here if it cannot be inverted
            self._costs.append(cost)
            self._bias_curvature += share / conv.groups / group_outputs

    def kernels(self, levels_OP: Levels) -> Levels:
        """Reshape (O, P) -> (O, I, K)."""
        return levels_OP.reshape(self.weight_shape[0], self.weight_shape[1], -1)

    def initial_scales(self, lambda_: float, *, by_class: bool = False) -> Float32Array:
        """Return the scales that balance nats and bits at λ, (O,).

        ``by_class``: by each class's own curvature, where there is one.
        """
        scales_O = np.empty(self.weight_shape[0])
        for outputs, cost in zip(self._outputs, self._costs, strict=True):
            if by_class and self._class_roots_ORP is not None:
                inputs_O = np.exp(self._class_mean_log_O)
            else:
                inputs_O = np.full(1, math.exp(mean_log_curvature(cost.inputs.curvature_PP)))
            squares = 12 * lambda_ / (math.log(2) * cost.output_curvature_O * inputs_O)
            scales_O[outputs] = (1 if self.trellis else 2) * SCALE_FACTOR * np.sqrt(squares)
        largest_O = np.abs(self.weight_OP).max(axis=1)
        # An output that nothing depends on may have any scale, and so may one of zeros.
        max_scale_O = np.where(largest_O > 0, 2 * largest_O, 1.0)
        least_O = self._least_scales()
        low_O, high_O = (
            np.maximum(largest_O / MAX_START_LEVEL, least_O),
            np.maximum(max_scale_O, least_O),
        )
        return round_scales(np.clip(scales_O, low_O, high_O))

    @cached_property
    def _class_mean_log_O(self) -> Float64Array:
        return np.array(
            [mean_log_curvature(self._of_class(o).curvature_PP) for o in range(len(self.bias_O))]
        )

    def _of_class(self, o: int) -> InputCost:
        """What errors in the weights of one class cost: in part its own, in part the layer's."""
        assert self._class_roots_ORP is not None
        layer_PP = self._costs[0].inputs.curvature_PP
        roots_RP = self._class_roots_ORP[o]
        trace = float(np.square(roots_RP, dtype=np.float64).sum())
        if trace <= TINY:
            return self._costs[0].inputs
        own_PP = (roots_RP.T @ roots_RP).astype(np.float64) * (np.trace(layer_PP) / trace)
        return InputCost(curvature_PP=layer_PP + CLASS_MIX * (own_PP - layer_PP))

    def _least_scales(self) -> Float64Array:
        """Return the scales from which on a bias fits into an accumulator, (O,).

        Weights that are nothing beside their bias would have a scale so small that the bias, in
        units of that scale, is beyond INTEGER.md's limit.
        """
        if not self._input_rms:
            return np.zeros(len(self.bias_O))
        smallest_input_scale = self._input_rms / INPUT_SCALES_PER_RMS
        least_O: Float64Array = np.abs(self.bias_O) / (smallest_input_scale * MAX_BIAS_UNITS)
        return least_O

    def initial_codes(self, scales_O: Float32Array) -> Levels:
        """Return codes (O, P) that the first round counts its contexts from."""
        scaled_OP = np.abs(self.weight_OP) / scales_O[:, None] / (2 if self.trellis else 1)
        magnitude = np.minimum(np.floor(scaled_OP + 1 - DEAD_ZONE), MAX_CODE)
        codes_OP: Levels = (np.sign(self.weight_OP) * magnitude).astype(np.int64)
        return codes_OP

    def round(
        self,
        start_O: Float32Array,
        bit_costs: BitCosts,
        classes_OIK: Levels,
        lambda_: float,
        width: SearchWidth,
        *,
        inputs: LayerInputs | None = None,
        by_class: bool = False,
        pool: Executor | None = None,
    ) -> QuantizedLayer:
        """Round all outputs, with scales near those of ``start_O``.

        ``inputs``: what earlier rounding made of the layer's inputs, to make up for.
        ``by_class``: each class has its own curvature, where there is one.
        """
        codes_OP = np.empty(self.weight_OP.shape, np.int64)
        scales_O = np.empty_like(start_O)
        target_OP = self.weight_OP if inputs is None else inputs.compensated(self.weight_OP)
        for outputs, cost in zip(self._outputs, self._costs, strict=True):
            if by_class and self._class_roots_ORP is not None:
                cost = dataclasses.replace(cost, of_output=self._of_class)
            codes_OP[outputs], scales_O[outputs] = round_layer(
                target_OP[outputs],
                cost,
                start_O[outputs].astype(np.float64),
                bit_costs,
                classes_OIK[outputs],
                lambda_=lambda_,
                width=width,
                trellis=self.trellis,
                pool=pool,
            )
        found = QuantizedLayer(
            weight_shape=self.weight_shape,
            trellis=self.trellis,
            codes_OP=codes_OP,
            scales_O=scales_O,
            bias_O=self.bias_O,
            bias_curvature=self._bias_curvature,
        )
        if inputs is None:
            return dataclasses.replace(found, bias_O=self.corrected_bias(found.weight_OP))
        bias_O = inputs.corrected_bias(self.weight_OP, self.bias_O, found.weight_OP)
        return dataclasses.replace(found, bias_O=bias_O)

    def predicted_errors(self, weight_OP: Float64Array) -> Float64Array:
        """Return each output's part of the predicted KL divergence, (O,), in nats."""
        error_OP = weight_OP - self.weight_OP
        return np.concatenate(
            [cost.of(error_OP[o]) for o, cost in zip(self._outputs, self._costs, strict=True)]
        )

    def corrected_bias(self, weight_OP: Float64Array) -> Float64Array:
        """Return the bias with which other weights leave the mean output unchanged, (O,)."""
        bias_O = self.bias_O.copy()
        for outputs, mean_P in zip(self._outputs, self._mean_GP, strict=True):
            bias_O[outputs] += (self.weight_OP[outputs] - weight_OP[outputs]) @ mean_P
        return bias_O


def mean_log_curvature(curvature_PP: Float64Array) -> float:
    """Return the mean over the inputs of the ln of their curvature, each after error feedback."""
    _, log_determinant = np.linalg.slogdet(damped(curvature_PP))
    return float(log_determinant) / len(curvature_PP)


def shrunk_fisher(fisher_OO: Float64Array) -> Float64Array:
    """Return the Fisher matrix of a layer's outputs, less what few images measure badly.

    Correlations shrink by ``OUTPUT_SHRINKAGE``, and the diagonal moves to its mean by
    ``MEAN_CURVATURE_MIX``.
    """
    own_O = np.diag(fisher_OO)
    smallest = MIN_CURVATURE * float(own_O.mean()) + TINY
    root_O = np.sqrt(np.maximum(own_O, smallest))
    correlation_OO = (1 - OUTPUT_SHRINKAGE) * fisher_OO / root_O / root_O[:, None]
    np.fill_diagonal(correlation_OO, 1.0)
    mixed_O = np.maximum(
        (1 - MEAN_CURVATURE_MIX) * own_O + MEAN_CURVATURE_MIX * own_O.mean(), smallest
    )
    shrunk_OO: Float64Array = correlation_OO * np.sqrt(mixed_O) * np.sqrt(mixed_O)[:, None]
    return shrunk_OO
