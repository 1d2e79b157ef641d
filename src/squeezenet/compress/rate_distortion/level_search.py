"""Which integer levels, and which steps between them, the weights of a whole network get.

One price, in nats of divergence a bit, holds for all layers. The step of an output follows from
its curvature: where rounding is fine, steps of sqrt(12 price / (ln 2 curvature)) cost and save
alike. On a trellis each weight has every other level only, so two steps are about as long as that.
Legend: O output channels, I input channels of a group, K kernel positions, P = I x K.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from squeezenet.arch.graph import Conv, Graph
from squeezenet.codec.numerics import Float32Array, round_biases, round_scales
from squeezenet.codec.trellis import to_levels
from squeezenet.codec.types import CompressedLayer, LevelWeights
from squeezenet.compress.rate_distortion.bit_costs import Levels, Rates, activity_classes, rates_of
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.trellis_rounding import (
    NARROW,
    Breadth,
    ErrorCost,
    Float64Array,
    feedback,
    round_layer,
)

_STEP = 0.46
"""Of that length: a step on the trellis, and half a step without one."""
_LARGEST_LEVEL = 115
"""Steps are at least this part of an output's largest weight."""
_MOMENT = 0.35
"""Share of the inputs' second moment in the Hessian: the images tell nothing of the directions
that they do not span, and rounding would flee there."""
_COMMON_GAIN = 0.85
"""Share of a layer's mean in each output's curvature, which few images measure badly."""
_ALONE = 0.5
"""Share of what outputs have in common that is not believed: what errors of two outputs cost
together differs from image to image, which one matrix for all does not know."""
_LEAST_GAIN = 1e-3
_DEAD_ZONE = 0.65
_MOST_CODE = 63
_ROUNDS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerLevels:
    """``codes_OP`` of levels on the trellis, or levels if not ``trellis``; ``scales_O`` as
    ``LevelWeights`` has them; ``bias_O`` float64."""

    trellis: bool
    codes_OP: Levels
    scales_O: Float32Array
    bias_O: Float64Array

    @cached_property
    def levels_OP(self) -> Levels:
        """-127 to 127."""
        if not self.trellis:
            return self.codes_OP
        rows = self.codes_OP.tolist()
        for row in rows:
            to_levels(row)
        return np.array(rows, np.int64).reshape(self.codes_OP.shape)

    @property
    def weight_OP(self) -> Float64Array:
        """What the levels stand for."""
        return self.levels_OP.astype(np.float64) * self.scales_O[:, None]


NetworkLevels = Mapping[str, LayerLevels]
"""By the convolutions' names, in the graph's order."""
Weights = Mapping[str, tuple[Float32Array, Float32Array]]
"""(weight OIHW, bias O) by the convolutions' names."""
Outputs = Mapping[str, npt.NDArray[np.bool_]]
"""Some outputs of each convolution: (O,) by its name."""


class LevelSearch:
    """The weights of a network, and what errors in them cost."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        curvatures: Mapping[str, Curvature],
    ) -> None:
        self._graph, self._curvatures = graph, curvatures
        self.weights = weights
        self._layers = {
            # Some kernels add up small levels faster, and most of the work per weight is here.
            conv.name: _Layer(
                conv, conv.source != graph.input, *weights[conv.name], curvatures[conv.name]
            )
            for conv in graph.convs
        }

    @property
    def num_weights(self) -> int:
        return sum(layer.weight_OP.size for layer in self._layers.values())

    def price_of(self, divergence: float) -> float:
        """Return the price, in nats a bit, at which rounding costs about ``divergence`` nats.

        A weight rounded finely costs price / (2 ln 2).
        """
        return 2 * math.log(2) * divergence / self.num_weights

    def of_weights(self, weights: Weights) -> LevelSearch:
        """Return the search for other weights, of which the same curvature is assumed."""
        return LevelSearch(self._graph, weights, self._curvatures)

    def start(
        self, price: float, breadth: Breadth, kept: tuple[NetworkLevels, Outputs] | None = None
    ) -> NetworkLevels:
        """Choose steps, and round every layer.

        ``kept``: levels, and the outputs that keep theirs; the weights there must be what these
        stand for.
        """
        scales = {name: layer.scales(price) for name, layer in self._layers.items()}
        codes = {name: layer.nearest(scales[name]) for name, layer in self._layers.items()}

        def keep() -> None:
            if kept is None:
                return
            for name, outputs in kept[1].items():
                codes[name][outputs] = kept[0][name].codes_OP[outputs]
                scales[name][outputs] = kept[0][name].scales_O[outputs]

        keep()
        found: dict[str, LayerLevels] = {}
        # The first rounds only find rates and contexts, which narrow ones tell as well.
        for each in (*[NARROW] * (_ROUNDS - 1), breadth):
            found = self._rounded(codes, scales, price, each, kept and kept[1])
            codes = {name: layer.codes_OP for name, layer in found.items()}
        return found

    def _rounded(
        self,
        codes: Mapping[str, Levels],
        scales: Mapping[str, Float32Array],
        price: float,
        breadth: Breadth,
        kept: Outputs | None,
    ) -> dict[str, LayerLevels]:
        """Round every layer at the rates and contexts that the codes before make."""
        shaped = {name: layer.kernels(codes[name]) for name, layer in self._layers.items()}
        rates = rates_of(shaped)

        def rounded(name: str) -> LayerLevels:
            layer, codes_OIK = self._layers[name], shaped[name]
            classes = activity_classes(codes_OIK)
            kind = rates[codes_OIK.shape[2] == 1]
            start = (codes[name], scales[name])
            kept_O = np.zeros(len(codes_OIK), np.bool_) if kept is None else kept[name]
            return layer.round(start, kept_O, kind, classes, price, breadth)

        # The longest first, so that no thread is left alone with one in the end.
        names = sorted(shaped, key=lambda name: -shaped[name].size)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            found = dict(zip(names, pool.map(rounded, names), strict=True))
        return {name: found[name] for name in shaped}

    def divergence(self, found: NetworkLevels) -> float:
        """Return what the curvature foretells of all layers' errors, in nats."""
        return sum(float(errors_O.sum()) for errors_O in self.errors(found).values())

    def errors(self, found: NetworkLevels) -> dict[str, Float64Array]:
        """Return each output's part of it, (O,) by the convolutions' names."""
        return {name: layer.errors(found[name].weight_OP) for name, layer in self._layers.items()}

    def compressed(self, found: NetworkLevels, price: float) -> tuple[CompressedLayer, ...]:
        """Return the layers as a file holds them; biases are rounded."""
        return tuple(
            CompressedLayer(
                name=name,
                weights=LevelWeights(
                    levels_OIHW=found[name].levels_OP.astype(np.int8).reshape(layer.shape),
                    scales_O=found[name].scales_O,
                    trellis=layer.trellis,
                ),
                bias_O=round_biases(found[name].bias_O, layer.bias_step(price)),
            )
            for name, layer in self._layers.items()
        )


class _Layer:
    """One convolution, its groups side by side."""

    def __init__(
        self,
        conv: Conv,
        trellis: bool,
        weight_OIHW: Float32Array,
        bias_O: Float32Array,
        curvature: Curvature,
    ) -> None:
        self.trellis = trellis
        self.shape = conv.weight_shape
        self.weight_OP = weight_OIHW.reshape(self.shape[0], -1).astype(np.float64)
        self.bias_O = bias_O.astype(np.float64)
        self._mean_GP = curvature.mean_GP
        each = self.shape[0] // conv.groups
        self._outputs = [slice(g * each, (g + 1) * each) for g in range(conv.groups)]
        self._costs, self._unit_curvature = [], 0.0
        for g in range(conv.groups):
            fisher, moment = curvature.fisher_GPP[g], curvature.moment_GPP[g]
            share = np.trace(fisher) / max(np.trace(moment), 1e-300)
            inputs_PP = (1 - _MOMENT) * fisher + _MOMENT * share * moment
            cost = ErrorCost(
                inputs_PP=inputs_PP,
                inputs_feedback_PP=feedback(inputs_PP),
                outputs_OO=_shrunk(curvature.output_GQQ[g]),
            )
            self._costs.append(cost)
            self._unit_curvature += share / conv.groups / each

    def kernels(self, levels_OP: Levels) -> Levels:
        """(O, P) -> (O, I, K)."""
        return levels_OP.reshape(self.shape[0], self.shape[1], -1)

    def scales(self, price: float) -> Float32Array:
        steps_O = np.empty(self.shape[0])
        for outputs, cost in zip(self._outputs, self._costs, strict=True):
            curvature = math.exp(-2 * np.log(np.diag(cost.inputs_feedback_PP)).mean())
            squares = 12 * price / (math.log(2) * cost.gain_O * curvature)
            steps_O[outputs] = (1 if self.trellis else 2) * _STEP * np.sqrt(squares)
        largest_O = np.abs(self.weight_OP).max(axis=1)
        # A layer that nothing depends on may have any step; weights that are all zero, too.
        coarsest_O = np.where(largest_O > 0, 2 * largest_O, 1.0)
        return round_scales(np.clip(steps_O, largest_O / _LARGEST_LEVEL, coarsest_O))

    def nearest(self, scales_O: Float32Array) -> Levels:
        """Codes to begin with: rounded down, mostly, as a price makes them."""
        scaled_OP = np.abs(self.weight_OP) / scales_O[:, None] / (2 if self.trellis else 1)
        magnitude = np.minimum(np.floor(scaled_OP + 1 - _DEAD_ZONE), _MOST_CODE)
        codes_OP: Levels = (np.sign(self.weight_OP) * magnitude).astype(np.int64)
        return codes_OP

    def round(
        self,
        start: tuple[Levels, Float32Array],
        kept_O: npt.NDArray[np.bool_],
        rates: Rates,
        classes_OIK: Levels,
        price: float,
        breadth: Breadth,
    ) -> LayerLevels:
        """Round all outputs but those that are ``kept_O``, with codes and scales to start from."""
        codes_OP, scales_O = start[0].copy(), start[1].copy()
        for outputs, cost in zip(self._outputs, self._costs, strict=True):
            free = np.flatnonzero(~kept_O[outputs]) + outputs.start
            if len(free):
                codes_OP[free], scales_O[free] = round_layer(
                    self.weight_OP[free],
                    cost.among(~kept_O[outputs]),
                    scales_O[free].astype(np.float64),
                    rates,
                    classes_OIK[free],
                    nats_a_bit=price,
                    breadth=breadth,
                    trellis=self.trellis,
                )
        found = LayerLevels(
            trellis=self.trellis, codes_OP=codes_OP, scales_O=scales_O, bias_O=self.bias_O
        )
        return dataclasses.replace(found, bias_O=self.corrected_bias(found.weight_OP))

    def errors(self, weight_OP: Float64Array) -> Float64Array:
        error_OP = weight_OP - self.weight_OP
        return np.concatenate(
            [cost.of(error_OP[o]) for o, cost in zip(self._outputs, self._costs, strict=True)]
        )

    def corrected_bias(self, weight_OP: Float64Array) -> Float64Array:
        """The bias that leaves the mean output as it was."""
        bias_O = self.bias_O.copy()
        for outputs, mean_P in zip(self._outputs, self._mean_GP, strict=True):
            bias_O[outputs] += (self.weight_OP[outputs] - weight_OP[outputs]) @ mean_P
        return bias_O

    def bias_step(self, price: float) -> float:
        """The step of the biases: that of weights on an input that is always 1."""
        return math.sqrt(12 * price / (math.log(2) * max(self._unit_curvature, 1e-300)))


def _shrunk(fisher_OO: Float64Array) -> Float64Array:
    """A Fisher matrix of a layer's outputs, of what few images measure badly made less."""
    own_O = np.diag(fisher_OO)
    least = _LEAST_GAIN * float(own_O.mean()) + 1e-300
    unit_O = np.sqrt(np.maximum(own_O, least))
    alike_OO = (1 - _ALONE) * fisher_OO / unit_O / unit_O[:, None]
    np.fill_diagonal(alike_OO, 1.0)
    gain_O = np.maximum((1 - _COMMON_GAIN) * own_O + _COMMON_GAIN * own_O.mean(), least)
    shrunk_OO: Float64Array = alike_OO * np.sqrt(gain_O) * np.sqrt(gain_O)[:, None]
    return shrunk_OO
