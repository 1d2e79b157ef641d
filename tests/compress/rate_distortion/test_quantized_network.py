"""Quantized networks: what levels stand for, and what a file holds of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from squeezenet.codec.types import LevelWeights
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
    grid_spacing,
)


def layer_of(**options: object) -> QuantizedLayer:
    values: dict[str, object] = {
        "weight_shape": (2, 1, 1, 2),
        "trellis": False,
        "codes_OP": np.array([[3, -1], [0, 2]]),
        "scales_O": np.array([0.5, 0.25], np.float32),
        "bias_O": np.array([0.3, -1.26]),
        "bias_curvature": 12 / math.log(2),
    }
    return QuantizedLayer(**(values | options))  # type: ignore[arg-type]


def test_grid_spacing_balances_nats_and_bits() -> None:
    lambda_, curvature = 0.01, 3.0

    def cost(spacing: float) -> float:
        return curvature * spacing**2 / 24 - lambda_ * math.log2(spacing)

    best = grid_spacing(lambda_, curvature)
    assert cost(best) < min(cost(0.99 * best), cost(1.01 * best))


def test_weights_are_levels_times_scales() -> None:
    layer = layer_of()
    np.testing.assert_array_equal(layer.weight_OP, [[1.5, -0.5], [0, 0.5]])
    # On the trellis: state 0 has level 6, and its odd code leads to an odd state.
    on_trellis = layer_of(trellis=True)
    np.testing.assert_array_equal(on_trellis.levels_OP, [[6, -2], [0, 4]])
    odd = layer_of(trellis=True, codes_OP=np.array([[1, 1, 1]]), weight_shape=(1, 1, 1, 3))
    np.testing.assert_array_equal(odd.levels_OP, [[2, 2, 1]])


def test_a_file_holds_levels_and_biases_on_their_grid() -> None:
    layer = layer_of()
    network = QuantizedNetwork(levels={"a": layer, "b": layer_of(trellis=True)}, lambda_=1 / 16)
    first, second = network.layers()
    assert (first.name, second.name) == ("a", "b")
    assert isinstance(first.weights, LevelWeights) and isinstance(second.weights, LevelWeights)
    assert not first.weights.trellis and second.weights.trellis
    np.testing.assert_array_equal(first.weights.levels_OIHW.ravel(), [3, -1, 0, 2])
    assert first.weights.levels_OIHW.shape == (2, 1, 1, 2)
    np.testing.assert_array_equal(first.weights.scales_O, layer.scales_O)
    # sqrt(12 / 16 / (ln 2 * 12 / ln 2)) = 1/4
    np.testing.assert_array_equal(first.bias_O, [0.25, -1.25])
    finer = dataclasses.replace(network, lambda_=1 / 256)
    np.testing.assert_array_equal(finer.layers()[0].bias_O, [0.3125, -1.25])
    assert np.isfinite(layer_of(bias_curvature=0.0).file_layer("x", 0.1).bias_O).all()


def test_density() -> None:
    layer = layer_of()
    dense = dataclasses.replace(layer, codes_OP=np.ones((2, 2), np.int64))
    network = QuantizedNetwork(levels={"a": layer, "b": dense}, lambda_=1.0)
    assert network.density() == pytest.approx(7 / 8)
