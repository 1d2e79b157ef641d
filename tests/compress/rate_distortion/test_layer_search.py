"""One layer: its scales, the shrinkage of its curvature, and the bias that keeps mean outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from squeezenet.compress.rate_distortion.bit_costs import BitCosts, activity_classes
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.layer_search import (
    DEAD_ZONE,
    MAX_START_LEVEL,
    MEAN_CURVATURE_MIX,
    MIN_CURVATURE,
    MOMENT_MIX,
    OUTPUT_SHRINKAGE,
    SCALE_FACTOR,
    LayerSearch,
    shrunk_fisher,
)
from squeezenet.compress.rate_distortion.quantized_network import grid_spacing
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, feedback
from tests.compress.rate_distortion.test_curvature import conv_of


def random_curvature(groups: int, size: int, outputs: int, seed: int = 0) -> Curvature:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(groups, 4 * size, size)), rng.normal(size=(groups, 9, outputs))
    x = rng.normal(0.5, 1, size=(groups, 50, size))
    output = b.transpose(0, 2, 1) @ b
    return Curvature(
        fisher_GPP=a.transpose(0, 2, 1) @ a,
        output_GQQ=output / np.trace(output, axis1=1, axis2=2)[:, None, None],
        mean_GP=x.mean(axis=1),
        moment_GPP=x.transpose(0, 2, 1) @ x / 50,
    )


def layer_of(trellis: bool = True, groups: int = 2, seed: int = 0) -> LayerSearch:
    rng = np.random.default_rng(seed)
    conv = conv_of(groups=groups)
    weight_OIHW = rng.laplace(0, 0.1, conv.weight_shape).astype(np.float32)
    bias_O = rng.normal(size=6).astype(np.float32)
    curvature = random_curvature(groups, 36 // groups, 6 // groups, seed)
    return LayerSearch(conv, trellis, weight_OIHW, bias_O, curvature)


def test_shrinkage_by_hand() -> None:
    fisher_OO = np.array([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    mean = 13 / 3
    mixed = [max(0.15 * own + 0.85 * mean, 1e-3 * mean) for own in (4, 9, 0)]
    correlation = 0.5 * 3 / 6
    found = shrunk_fisher(fisher_OO)
    np.testing.assert_allclose(np.diag(found), mixed)
    assert found[0, 1] == found[1, 0] == pytest.approx(correlation * math.sqrt(mixed[0] * mixed[1]))
    assert found[0, 2] == 0
    assert (OUTPUT_SHRINKAGE, MEAN_CURVATURE_MIX, MIN_CURVATURE) == (0.5, 0.85, 1e-3)
    assert np.isfinite(shrunk_fisher(np.zeros((2, 2)))).all()


def test_tiny_curvatures_bound_correlations(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output of next to no curvature of its own is not correlated by dividing by nothing."""
    fisher_OO = np.array([[1.0, 1e-5], [1e-5, 1e-10]])
    found = shrunk_fisher(fisher_OO)
    mean = (1 + 1e-10) / 2
    root = math.sqrt(1e-3 * mean)
    own = math.sqrt(0.15 + 0.85 * mean) * math.sqrt(0.15e-10 + 0.85 * mean)
    assert found[0, 1] == pytest.approx(0.5 * 1e-5 / root * own)


@pytest.mark.parametrize("groups", [1, 2])
def test_corrected_biases_leave_the_mean_output_unchanged(groups: int) -> None:
    layer = layer_of(groups=groups)
    scales_O = layer.initial_scales(0.03)
    codes_OP = layer.initial_codes(scales_O)
    codes_OIK = layer.kernels(codes_OP)
    found = layer.round(
        scales_O, BitCosts.count([codes_OIK]),
        activity_classes(codes_OIK), 0.03, NARROWEST,
    )  # fmt: skip
    assert (found.weight_OP != layer.weight_OP).any()
    mean_GP = random_curvature(groups, 36 // groups, 6 // groups).mean_GP
    for o in range(6):
        mean_P = mean_GP[o // (6 // groups)]
        before = layer.weight_OP[o] @ mean_P + layer.bias_O[o]
        after = found.weight_OP[o] @ mean_P + found.bias_O[o]
        assert after == pytest.approx(before, rel=1e-9)
        assert found.bias_O[o] != layer.bias_O[o]


@pytest.mark.parametrize("trellis", [True, False])
def test_scales_balance_nats_and_bits(trellis: bool) -> None:
    layer, lambda_ = layer_of(trellis), 3e-3
    curvature = random_curvature(2, 18, 3)
    found_O = layer.initial_scales(lambda_)
    for o in range(6):
        g, q = divmod(o, 3)
        fisher, moment = curvature.fisher_GPP[g], curvature.moment_GPP[g]
        share = np.trace(fisher) / np.trace(moment)
        inputs_PP = (1 - MOMENT_MIX) * fisher + MOMENT_MIX * share * moment
        per_input = np.diag(feedback(inputs_PP)) ** -2.0
        per_output = np.diag(feedback(shrunk_fisher(curvature.output_GQQ[g]))) ** -2.0
        spacing = grid_spacing(lambda_, per_output[q] * math.exp(np.log(per_input).mean()))
        wanted = (1 if trellis else 2) * SCALE_FACTOR * spacing
        assert found_O[o] == pytest.approx(wanted, rel=1 / 60)
    assert MOMENT_MIX == 0.35


def test_the_curvature_of_biases_is_that_of_an_input_of_one() -> None:
    layer, curvature = layer_of(), random_curvature(2, 18, 3)
    shares = [np.trace(curvature.fisher_GPP[g]) / np.trace(curvature.moment_GPP[g]) for g in (0, 1)]
    codes_OP = np.zeros((6, 18), np.int64)
    found = layer.round(
        np.ones(6, np.float32), BitCosts.count([layer.kernels(codes_OP)]),
        layer.kernels(codes_OP), 1.0, NARROWEST,
    )  # fmt: skip
    assert found.bias_curvature == pytest.approx(sum(shares) / 6)
    assert found.trellis and found.weight_shape == (6, 2, 3, 3)


def test_scales_keep_levels_within_bytes() -> None:
    layer = layer_of()
    fine_O, coarse_O = layer.initial_scales(1e-30), layer.initial_scales(1e30)
    largest_O = np.abs(layer.weight_OP).max(axis=1)
    np.testing.assert_allclose(fine_O, largest_O / MAX_START_LEVEL, rtol=1 / 60)
    np.testing.assert_allclose(coarse_O, 2 * largest_O, rtol=1 / 60)
    layer.weight_OP[0] = 0
    assert layer.initial_scales(1e30)[0] == 1.0
    assert layer.initial_codes(fine_O)[1:].max() <= 63


def test_codes_to_start_with_have_a_dead_zone() -> None:
    layer = layer_of(trellis=False)
    layer.weight_OP = np.array([[0.64, -0.66, 1.64, -1.66, 200.0, 0.0]])
    codes_OP = layer.initial_codes(np.ones(1, np.float32))
    np.testing.assert_array_equal(codes_OP, [[0, -1, 1, -2, 63, 0]])
    layer.trellis = True
    layer.weight_OP = 2 * layer.weight_OP
    np.testing.assert_array_equal(layer.initial_codes(np.ones(1, np.float32)), codes_OP)
    assert DEAD_ZONE == 0.65


def test_predicted_errors_are_the_quadratic_model() -> None:
    layer, curvature = layer_of(), random_curvature(2, 18, 3)
    rng = np.random.default_rng(1)
    error_OP = rng.normal(size=(6, 18))
    found_O = layer.predicted_errors(layer.weight_OP + error_OP)
    for g in range(2):
        fisher, moment = curvature.fisher_GPP[g], curvature.moment_GPP[g]
        share = np.trace(fisher) / np.trace(moment)
        inputs_PP = (1 - MOMENT_MIX) * fisher + MOMENT_MIX * share * moment
        part_OP, outputs_OO = error_OP[3 * g : 3 * g + 3], shrunk_fisher(curvature.output_GQQ[g])
        wanted = np.trace(outputs_OO @ part_OP @ inputs_PP @ part_OP.T) / 2
        assert found_O[3 * g : 3 * g + 3].sum() == pytest.approx(wanted)
