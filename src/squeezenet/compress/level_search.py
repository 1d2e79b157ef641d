"""Which integer levels, and which steps between them, the weights of a whole network get.

One price, in nats of divergence a bit, holds for all layers. The step of an output follows from
its curvature: where rounding is fine, steps of sqrt(12 price / (ln 2 curvature)) cost and save
alike; the best ones at a bit a weight are half as large again, most of it being zeros.
Legend: O output channels, I input channels of a group, K kernel positions, P = I x K.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from squeezenet.arch.graph import Conv, Graph
from squeezenet.codec.types import (
    CompressedLayer,
    Float32Array,
    LevelWeights,
    round_biases,
    round_scales,
)
from squeezenet.compress.curvature import Curvature
from squeezenet.compress.rates import MOST, Levels, Rates, activity_classes, rates_of
from squeezenet.compress.rounding import Feedback, Float64Array, descend_layer, round_layer

_STEP = 1.5
_LARGEST_LEVEL = 100
"""Steps are at least this part of an output's largest weight."""
_MOMENT = 0.3
"""Share of the inputs' second moment in the Hessian: the images tell nothing of the directions
that they do not span, and rounding would flee there."""
_COMMON_GAIN = 0.4
"""Share of a layer's mean in each output's curvature, which few images measure badly."""
_LEAST_GAIN = 1e-3
_DEAD_ZONE = 0.65
_ROUNDS, _POLISHES = 3, 2
_RESCALE = 0.5
"""Scales that would change more than this are those of outputs of which little is left."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerLevels:
    """``levels_OP`` -127..127; ``scales_O`` as ``LevelWeights`` has them; ``bias_O`` float64."""

    levels_OP: Levels
    scales_O: Float32Array
    bias_O: Float64Array

    @property
    def weight_OP(self) -> Float64Array:
        """What the levels stand for."""
        return self.levels_OP.astype(np.float64) * self.scales_O[:, None]


NetworkLevels = Mapping[str, LayerLevels]
"""By the convolutions' names, in the graph's order."""


class LevelSearch:
    """The weights of a network, and what errors in them cost."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, tuple[Float32Array, Float32Array]],
        curvatures: Mapping[str, Curvature],
    ) -> None:
        """``weights``: (weight OIHW, bias O) by the convolutions' names."""
        self._layers = {
            conv.name: _Layer(conv, *weights[conv.name], curvatures[conv.name])
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

    def start(self, price: float) -> NetworkLevels:
        """Choose steps, and round every layer."""
        scales = {name: layer.scales(price) for name, layer in self._layers.items()}
        levels = {name: layer.nearest(scales[name]) for name, layer in self._layers.items()}
        for _ in range(_ROUNDS):
            levels = self._each(
                levels,
                lambda layer, name, rates, classes: layer.round(
                    scales[name], rates, classes, price
                ),
            )
        found = {
            name: LayerLevels(levels_OP=levels[name], scales_O=scales[name], bias_O=layer.bias_O)
            for name, layer in self._layers.items()
        }
        for _ in range(_POLISHES):
            found = {n: layer.rescaled(found[n]) for n, layer in self._layers.items()}
            slopes = {n: layer.slope(found[n].weight_OP) for n, layer in self._layers.items()}
            found = self.descend(found, slopes, price)
        found = {n: layer.rescaled(found[n]) for n, layer in self._layers.items()}
        return {
            name: dataclasses.replace(
                found[name], bias_O=layer.corrected_bias(found[name].weight_OP)
            )
            for name, layer in self._layers.items()
        }

    def descend(
        self,
        found: NetworkLevels,
        slopes: Mapping[str, Float64Array],
        price: float,
        names: frozenset[str] | None = None,
    ) -> dict[str, LayerLevels]:
        """Improve levels by ``slopes``, how the divergence grows with each weight, (O, P).

        ``names``: only these layers.
        """
        levels = self._each(
            {name: layer.levels_OP for name, layer in found.items()},
            lambda layer, name, rates, classes: layer.descend(
                found[name], slopes[name], rates, classes, price
            ),
            names,
        )
        return {
            name: dataclasses.replace(layer, levels_OP=levels[name])
            for name, layer in found.items()
        }

    def divergence(self, found: NetworkLevels) -> float:
        """Return what the curvature foretells of all layers' errors, in nats."""
        return sum(layer.divergence(found[n].weight_OP) for n, layer in self._layers.items())

    def compressed(self, found: NetworkLevels, price: float) -> tuple[CompressedLayer, ...]:
        """Return the layers as a file holds them; biases are rounded."""
        return tuple(
            CompressedLayer(
                name=name,
                weights=LevelWeights(
                    levels_OIHW=found[name].levels_OP.astype(np.int8).reshape(layer.shape),
                    scales_O=found[name].scales_O,
                ),
                bias_O=round_biases(found[name].bias_O, layer.bias_step(price)),
            )
            for name, layer in self._layers.items()
        )

    def _each(
        self,
        levels: Mapping[str, Levels],
        change: Callable[[_Layer, str, Rates, Levels], Levels],
        names: frozenset[str] | None = None,
    ) -> dict[str, Levels]:
        """Give every layer new levels at the rates and contexts that the old ones make."""
        shaped = {name: layer.kernels(levels[name]) for name, layer in self._layers.items()}
        rates = rates_of(shaped)
        return {
            name: change(
                layer, name, rates[shaped[name].shape[2] == 1], activity_classes(shaped[name])
            )
            if names is None or name in names
            else levels[name]
            for name, layer in self._layers.items()
        }


class _Layer:
    """One convolution, its groups side by side."""

    def __init__(
        self, conv: Conv, weight_OIHW: Float32Array, bias_O: Float32Array, curvature: Curvature
    ) -> None:
        self.shape = conv.weight_shape
        self.weight_OP = weight_OIHW.reshape(self.shape[0], -1).astype(np.float64)
        self.bias_O = bias_O.astype(np.float64)
        self._mean_GP = curvature.mean_GP
        each = self.shape[0] // conv.groups
        self._outputs = [slice(g * each, (g + 1) * each) for g in range(conv.groups)]
        self._hessians, self._gain_O = [], np.empty(self.shape[0])
        self._unit_curvature = 0.0
        for g, outputs in enumerate(self._outputs):
            fisher, moment = curvature.fisher_GPP[g], curvature.moment_GPP[g]
            share = np.trace(fisher) / max(np.trace(moment), 1e-300)
            self._unit_curvature += share / conv.groups
            self._hessians.append((1 - _MOMENT) * fisher + _MOMENT * share * moment)
            gain_O = curvature.share_O[outputs]
            gain_O = (1 - _COMMON_GAIN) * gain_O + _COMMON_GAIN * gain_O.mean()
            self._gain_O[outputs] = np.maximum(gain_O, _LEAST_GAIN * gain_O.mean())
        size = self.shape[2] * self.shape[3]
        self._feedback = [Feedback.of(hessian, size) for hessian in self._hessians]

    def kernels(self, levels_OP: Levels) -> Levels:
        """(O, P) -> (O, I, K)."""
        return levels_OP.reshape(self.shape[0], self.shape[1], -1)

    def scales(self, price: float) -> Float32Array:
        steps_O = np.empty(self.shape[0])
        for outputs, feedback in zip(self._outputs, self._feedback, strict=True):
            curvature = math.exp(np.log(feedback.curvature_P).mean())
            squares = 12 * price / (math.log(2) * self._gain_O[outputs] * curvature)
            steps_O[outputs] = _STEP * np.sqrt(squares)
        largest_O = np.abs(self.weight_OP).max(axis=1)
        # A layer that nothing depends on may have any step; weights that are all zero, too.
        coarsest_O = np.where(largest_O > 0, 2 * largest_O, 1.0)
        return round_scales(np.clip(steps_O, largest_O / _LARGEST_LEVEL, coarsest_O))

    def nearest(self, scales_O: Float32Array) -> Levels:
        """Levels to begin with: rounded down, mostly, as a price makes them."""
        scaled_OP = np.abs(self.weight_OP) / scales_O[:, None]
        magnitude = np.minimum(np.floor(scaled_OP + 1 - _DEAD_ZONE), MOST)
        levels_OP: Levels = (np.sign(self.weight_OP) * magnitude).astype(np.int64)
        return levels_OP

    def round(self, scales_O: Float32Array, rates: Rates, classes: Levels, price: float) -> Levels:
        levels_OP = np.empty(self.weight_OP.shape, np.int64)
        for outputs, feedback in zip(self._outputs, self._feedback, strict=True):
            levels_OP[outputs] = round_layer(
                self.weight_OP[outputs],
                feedback,
                self._gain_O[outputs],
                scales_O[outputs].astype(np.float64),
                rates,
                classes[outputs],
                nats_a_bit=price,
            )
        return levels_OP

    def slope(self, weight_OP: Float64Array) -> Float64Array:
        """How the layer's own error costs more with each weight."""
        slope_OP = np.empty(weight_OP.shape)
        for outputs, hessian_PP in zip(self._outputs, self._hessians, strict=True):
            error_OP = weight_OP[outputs] - self.weight_OP[outputs]
            slope_OP[outputs] = self._gain_O[outputs, None] * (error_OP @ hessian_PP)
        return slope_OP

    def divergence(self, weight_OP: Float64Array) -> float:
        return float(((weight_OP - self.weight_OP) * self.slope(weight_OP)).sum() / 2)

    def rescaled(self, found: LayerLevels) -> LayerLevels:
        """The scales at which the error is none along the weights themselves.

        Those of least error would leave the weights shorter, by the error's share; in every output
        and layer alike, which adds up (see ``gains``).
        """
        scales_O = found.scales_O.copy()
        for outputs, hessian_PP in zip(self._outputs, self._hessians, strict=True):
            pull_OP = self.weight_OP[outputs] @ hessian_PP
            square_O = (pull_OP * self.weight_OP[outputs]).sum(axis=1)
            along_O = (pull_OP * found.levels_OP[outputs]).sum(axis=1)
            best_O = square_O / np.maximum(along_O, 1e-300)
            usable = (along_O > 0) & (np.abs(best_O / scales_O[outputs] - 1) < _RESCALE)
            best_O = np.where(usable, best_O, scales_O[outputs])
            scales_O[outputs] = round_scales(best_O)
        return dataclasses.replace(found, scales_O=scales_O)

    def descend(
        self,
        found: LayerLevels,
        slope_OP: Float64Array,
        rates: Rates,
        classes: Levels,
        price: float,
    ) -> Levels:
        levels_OP = found.levels_OP.copy()
        for outputs, hessian_PP in zip(self._outputs, self._hessians, strict=True):
            levels_OP[outputs] = descend_layer(
                found.levels_OP[outputs],
                slope_OP[outputs],
                hessian_PP,
                self._gain_O[outputs],
                found.scales_O[outputs].astype(np.float64),
                rates,
                classes[outputs],
                nats_a_bit=price,
            )
        return levels_OP

    def corrected_bias(self, weight_OP: Float64Array) -> Float64Array:
        """The bias that leaves the mean output as it was."""
        bias_O = self.bias_O.copy()
        for outputs, mean_P in zip(self._outputs, self._mean_GP, strict=True):
            bias_O[outputs] += (self.weight_OP[outputs] - weight_OP[outputs]) @ mean_P
        return bias_O

    def bias_step(self, price: float) -> float:
        """The step of the biases: that of weights on an input that is always 1."""
        curvature = float(self._gain_O.mean()) * self._unit_curvature
        return math.sqrt(12 * price / (math.log(2) * max(curvature, 1e-300)))
