"""A network of integer levels: as the search finds it, and as a file holds it.

weight = level * scale of its output channel. On the trellis a code of half the level's size says
which level it is (``codec.trellis``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from squeezenet.codec.numerics import Float32Array, round_biases
from squeezenet.codec.trellis import levels_of_codes
from squeezenet.codec.types import CompressedLayer, LevelWeights
from squeezenet.compress.rate_distortion.arrays import Float64Array, Levels
from squeezenet.compress.rate_distortion.curvature import TINY

Weights: TypeAlias = Mapping[str, tuple[Float32Array, Float32Array]]
"""(weight OIHW, bias O) by the convolutions' names."""


def grid_spacing(lambda_: float, curvature: float) -> float:
    """Return the spacing of a uniform grid at which fine rounding costs λ per bit saved.

    A grid of spacing s costs curvature * s^2 / 24 nats per value, and a value takes -log2(s) bits
    and a constant. The sum is least at s = sqrt(12 λ / (ln 2 * curvature)).
    """
    return math.sqrt(12 * lambda_ / (math.log(2) * curvature))


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedLayer:
    """One convolution.

    ``weight_shape``: O, I, kernel height and width. ``codes_OP``: codes on the trellis, or the
    levels themselves if not ``trellis``. ``scales_O``: as ``LevelWeights`` has them. ``bias_O``:
    not yet rounded. ``bias_curvature``: nats per squared unit of a bias, which with λ gives the
    biases' grid.
    """

    weight_shape: tuple[int, int, int, int]
    trellis: bool
    codes_OP: Levels
    scales_O: Float32Array
    bias_O: Float64Array
    bias_curvature: float

    @cached_property
    def levels_OP(self) -> Levels:
        """Levels, -127 to 127."""
        if not self.trellis:
            return self.codes_OP
        return levels_of_codes(self.codes_OP)

    @property
    def weight_OP(self) -> Float64Array:
        """The weights that levels and scales stand for."""
        return self.levels_OP.astype(np.float64) * self.scales_O[:, None]

    def weight_and_bias(self) -> tuple[Float32Array, Float32Array]:
        """Return the weight OIHW and the bias O, float32."""
        weight_OIHW = self.weight_OP.reshape(self.weight_shape)
        return weight_OIHW.astype(np.float32), self.bias_O.astype(np.float32)

    def bias_spacing(self, lambda_: float) -> float:
        """Return the spacing of the biases' grid at λ."""
        return grid_spacing(lambda_, max(self.bias_curvature, TINY))

    def file_layer(self, name: str, lambda_: float) -> CompressedLayer:
        """Return the layer as a file holds it, its biases rounded to their grid at λ."""
        return CompressedLayer(
            name=name,
            weights=LevelWeights(
                levels_OIHW=self.levels_OP.astype(np.int8).reshape(self.weight_shape),
                scales_O=self.scales_O,
                trellis=self.trellis,
            ),
            bias_O=round_biases(self.bias_O, self.bias_spacing(lambda_)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedNetwork:
    """``levels`` by the convolutions' names, in the graph's order, and the λ they were found at.

    ``lambda_`` is the Lagrange multiplier of J = KL + λ * bits, in nats per bit.
    """

    levels: Mapping[str, QuantizedLayer]
    lambda_: float

    def layers(self) -> tuple[CompressedLayer, ...]:
        """Return the layers as a file holds them."""
        return tuple(layer.file_layer(name, self.lambda_) for name, layer in self.levels.items())

    def density(self) -> float:
        """Return the share of the weights that are not zero."""
        codes = np.concatenate([layer.codes_OP.reshape(-1) for layer in self.levels.values()])
        return np.count_nonzero(codes) / len(codes)
