"""Rounding: exact costs, error feedback, search width, unbiased scales."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from squeezenet import _native
from squeezenet.codec.numerics import round_scales, scales_around
from squeezenet.codec.trellis import to_levels
from squeezenet.compress.rate_distortion import trellis_rounding
from squeezenet.compress.rate_distortion.bit_costs import (
    BitCosts,
    activity_classes,
    context_places,
)
from squeezenet.compress.rate_distortion.trellis_rounding import (
    DAMPING,
    MAX_SCALE_CHANGE,
    ErrorCost,
    InputCost,
    SearchWidth,
    feedback,
    round_layer,
    unbiased_scale,
)

FOUR = SearchWidth(survivors=4, scales=1)


def cost_of(inputs_PP: np.ndarray, outputs_OO: np.ndarray) -> ErrorCost:
    return ErrorCost(inputs=InputCost(curvature_PP=inputs_PP), outputs_OO=outputs_OO)


def levels_of_codes(codes_OP: np.ndarray) -> np.ndarray:
    rows = codes_OP.tolist()
    for row in rows:
        to_levels(row)
    return np.array(rows)


def rounded(
    weight_OP: np.ndarray, hessian: np.ndarray, scale: float, lambda_: float,
    width: SearchWidth = FOUR,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """Levels of 3x3 kernels, and what they cost: distortion, and bits times λ."""
    shape = (len(weight_OP), len(hessian) // 9, 9)
    plain_OP = np.rint(weight_OP / scale / 2).clip(-63, 63).astype(np.int64)
    bit_costs = BitCosts.count([plain_OP.reshape(shape)])
    classes = activity_classes(np.zeros(shape, np.int64))
    codes_OP, scales_O = round_layer(
        weight_OP, cost_of(hessian, np.eye(len(weight_OP))), np.full(len(weight_OP), scale),
        bit_costs, classes, lambda_=lambda_, width=width,
    )  # fmt: skip
    codes_OIK = codes_OP.reshape(shape)
    sums, places = context_places(codes_OIK)
    bits = np.where(
        codes_OIK == 0,
        bit_costs.zero_SPC[sums, places, 0],
        bit_costs.nonzero_SPC[sums, places, 0] + bit_costs.magnitude_CM[0, np.abs(codes_OIK)],
    ).sum()
    levels_OP = levels_of_codes(codes_OP)
    error = levels_OP * scales_O[:, None] - weight_OP
    distortion = float(np.einsum("op,pq,oq->", error, hessian, error)) / 2
    return levels_OP, distortion + lambda_ * float(bits)


def correlated_layer(seed: int, outputs: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """(O, 180) weights, and the inputs' matrix."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(2000, 180)) @ rng.normal(size=(180, 180)) / 13
    return rng.laplace(size=(outputs, 180)), inputs.T @ inputs / 2000


def test_feedback_factorises_the_damped_inverse() -> None:
    _, hessian = correlated_layer(0)
    upper_PP = feedback(hessian)
    np.testing.assert_array_equal(upper_PP, np.triu(upper_PP))
    damped = hessian + DAMPING * np.diag(hessian).mean() * np.eye(180)
    np.testing.assert_allclose(upper_PP.T @ upper_PP @ damped, np.eye(180), atol=1e-8)
    assert np.isfinite(feedback(np.zeros((3, 3)))).all()


def test_output_curvature_is_what_later_outputs_cannot_compensate() -> None:
    matrix = np.random.default_rng(0).normal(size=(9, 4))
    outputs_OO = matrix.T @ matrix
    cost = cost_of(np.eye(2), outputs_OO)
    damped = outputs_OO + DAMPING * np.diag(outputs_OO).mean() * np.eye(4)
    for o in range(4):
        # The least of e' damped e / 2 with e 0 before o, 1 at o, and anything after it.
        rest = damped[o + 1 :, o + 1 :]
        least = damped[o, o] - damped[o, o + 1 :] @ np.linalg.solve(rest, damped[o + 1 :, o])
        assert cost.output_curvature_O[o] == pytest.approx(least)


def test_error_costs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(9, 4))
    cost, error_OP = cost_of(b.T @ b, a.T @ a), rng.normal(size=(3, 4))
    wanted = np.einsum("op,pq,rq,or->", error_OP, b.T @ b, error_OP, a.T @ a) / 2
    assert cost.of(error_OP).sum() == pytest.approx(wanted)
    assert cost.of(error_OP).shape == (3,)
    alone = np.zeros_like(error_OP)
    alone[1] = error_OP[1]
    assert cost.of(alone)[0] == cost.of(alone)[2] == 0


def test_an_unbiased_scale_leaves_no_error_along_the_weights() -> None:
    rng = np.random.default_rng(0)
    _, hessian = correlated_layer(0)
    levels_P = rng.integers(-3, 4, 180).astype(np.float64)
    noise_P = rng.normal(size=180)
    # Weights whose best scale is 1.25, which a file holds: w F (w - 1.25 l) = 0.
    pull_P = hessian @ levels_P
    noise_P -= levels_P * float(noise_P @ pull_P) / float(levels_P @ pull_P)
    for share in (0.05, 0.2):
        noise = share * noise_P
        # With w = a l + n, and n F l = 0, the scale is a + (n F n) / (a l F l).
        ratio = float(noise @ hessian @ noise) / float(levels_P @ pull_P)
        a = (1.25 + np.sqrt(1.25**2 - 4 * ratio)) / 2
        weight_P = a * levels_P + noise
        scale = unbiased_scale(weight_P, levels_P, hessian, 1.0)
        assert scale == 1.25
        error_P = weight_P - scale * levels_P
        along = weight_P @ hessian @ error_P
        assert abs(along) < 1e-9 * (weight_P @ hessian @ weight_P)
        # Not the scale of least error, which is a.
        assert a < 1.25


def test_scales_that_rounding_left_too_little_of_stay() -> None:
    weight_P, levels_P = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    best = 5 / 3
    assert unbiased_scale(weight_P, levels_P, np.eye(2), 1.2) == round_scales(np.array([best]))[0]
    assert unbiased_scale(weight_P, levels_P, np.eye(2), 1.1) == 1.1  # over half more
    assert unbiased_scale(weight_P, levels_P, np.eye(2), 4.0) == 4.0  # over half less
    assert unbiased_scale(weight_P, -levels_P, np.eye(2), 1.2) == 1.2
    assert unbiased_scale(weight_P, 0 * levels_P, np.eye(2), 1.2) == 1.2
    assert unbiased_scale(np.array([3.0]), np.array([2.0]), np.eye(1), 1.0) == 1.0  # just half
    assert MAX_SCALE_CHANGE == 0.5


def test_rounding_leaves_scales_unbiased() -> None:
    """Rounding at a large λ shrinks weights; scales make up for it."""
    weight_OP, hessian = correlated_layer(1, outputs=12)
    bit_costs = BitCosts.count([np.rint(weight_OP).astype(np.int64).reshape(12, 20, 9)])
    classes = activity_classes(np.zeros((12, 20, 9), np.int64))
    codes_OP, scales_O = round_layer(
        weight_OP, cost_of(hessian, np.eye(12)), np.full(12, 0.5), bit_costs, classes,
        lambda_=0.3, width=FOUR,
    )  # fmt: skip
    levels_OP = levels_of_codes(codes_OP)
    # Damping apart, outputs do not reach each other, so the targets are the weights.
    along_O = np.einsum(
        "op,pq,oq->o", weight_OP, hessian, weight_OP - scales_O[:, None] * levels_OP
    )
    size_O = np.einsum("op,pq,oq->o", weight_OP, hessian, weight_OP)
    assert (np.abs(along_O / size_O) < 2**-6).all()
    assert (scales_O > 0.5).all()


def test_a_trellis_is_a_decibel_finer() -> None:
    """Every other level of a grid is as coarse as two scales, on a trellis 1 dB finer."""
    weight_OP = np.random.default_rng(0).uniform(-4, 4, size=(64, 576))
    levels_OP, _ = rounded(weight_OP, np.eye(576), 0.25, 0.0)
    error = np.square(levels_OP * 0.25 - weight_OP).mean()
    assert 0.5**2 / 12 / 1.35 < error < 0.5**2 / 12 / 1.2


def test_without_a_trellis_codes_are_levels() -> None:
    weight_OP = np.random.default_rng(0).uniform(-4, 4, size=(3, 18))
    bit_costs = BitCosts.count([np.ones((3, 2, 9), np.int64)])
    classes = activity_classes(np.zeros((3, 2, 9), np.int64))
    codes_OP, scales_O = round_layer(
        weight_OP, cost_of(np.eye(18), np.eye(3)), np.full(3, 0.5), bit_costs, classes,
        lambda_=0.0, width=FOUR, trellis=False,
    )  # fmt: skip
    np.testing.assert_array_equal(codes_OP, np.rint(weight_OP / 0.5))
    assert codes_OP.dtype == np.int64 and scales_O.dtype == np.float32


def test_feedback_helps_and_lambda_saves_bits() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 36)) @ rng.normal(size=(36, 36))
    hessian = inputs.T @ inputs / 400
    weight_OP = rng.normal(size=(16, 36))
    plain, _ = rounded(weight_OP, np.eye(36), 0.25, 0.0)

    def cost(levels_OP: np.ndarray) -> float:
        error = weight_OP - levels_OP * 0.25
        return float(np.einsum("op,pq,oq->", error, hessian, error))

    found = [rounded(weight_OP, hessian, 0.25, lambda_)[0] for lambda_ in (0.0, 0.3, 10.0)]
    assert cost(found[0]) < 0.6 * cost(plain)
    num_zeros = [int((levels == 0).sum()) for levels in found]
    assert num_zeros[0] < num_zeros[1] < num_zeros[2]
    assert cost(found[0]) < cost(found[1]) < cost(found[2])


def test_more_survivors_and_more_scales_cost_less() -> None:
    weight_OP, hessian = correlated_layer(2)
    for widths, factor in (
        ([SearchWidth(survivors=n, scales=1) for n in (1, 4, 16)], 1.01),
        ([SearchWidth(survivors=2, scales=n) for n in (1, 3, 9)], 1.003),
    ):
        costs = [rounded(weight_OP, hessian, 0.5, 0.05, width)[1] for width in widths]
        assert costs[0] > factor * costs[1] > factor * costs[2]


def test_the_cheapest_of_the_scales_is_kept() -> None:
    """Weights that one scale of three holds exactly are rounded with it."""
    rng = np.random.default_rng(0)
    scales = scales_around(0.5, 3).tolist()
    levels_P = rng.integers(-9, 10, 18)
    bit_costs = BitCosts.count([np.ones((1, 2, 9), np.int64)])
    classes = activity_classes(np.zeros((1, 2, 9), np.int64))
    for scale in scales:
        codes_OP, scales_O = round_layer(
            levels_P[None] * scale, cost_of(np.eye(18), np.eye(1)), np.full(1, 0.5), bit_costs,
            classes, lambda_=1e-6, width=SearchWidth(survivors=4, scales=3), trellis=False,
        )  # fmt: skip
        np.testing.assert_array_equal(codes_OP[0], levels_P)
        assert scales_O[0] == np.float32(scale)


def test_the_cost_of_a_path_is_exact() -> None:
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(2000, 720)) @ rng.normal(size=(720, 720)) / 27
    hessian = inputs.T @ inputs / 2000
    weight_P, upper_PP = rng.laplace(size=720), np.ascontiguousarray(feedback(hessian))
    codes_P = np.empty(720, np.int16)
    # Zeros cost 1 bit, all others 3.
    nats = _native.round_output(
        weight_P, upper_PP, np.ascontiguousarray(upper_PP.T, np.float32),
        np.full((16, 9, 16), 1.0), np.full((16, 9, 16), 2.0), np.full((16, 128), 1.0),
        np.zeros(720, np.uint8), codes_P, 0.8, 0.5, 9, 8, True, 0.02,
    )  # fmt: skip
    levels = codes_P.tolist()
    to_levels(levels)
    error_P = np.linalg.solve(upper_PP.T, weight_P - 0.5 * np.array(levels))
    bits = 720 + 2 * np.count_nonzero(codes_P)
    assert abs(nats / (0.4 * float(error_P @ error_P) + 0.02 * bits) - 1) < 1e-3


def test_large_levels_stay_within_bytes() -> None:
    weight_OP = np.linspace(-300, 300, 72).reshape(2, 36)
    levels_OP, _ = rounded(weight_OP, np.eye(36), 1.0, 0.0)
    assert 120 < np.abs(levels_OP).max() < 127
    inside = np.abs(weight_OP) < 120
    assert np.abs(levels_OP - weight_OP)[inside].max() <= 2


def layer_of_related_outputs() -> tuple[np.ndarray, ErrorCost, BitCosts, np.ndarray]:
    rng = np.random.default_rng(3)
    between = rng.normal(size=(40, 24)) @ np.diag(np.geomspace(1, 0.05, 24))
    inputs = rng.normal(size=(400, 36)) @ rng.normal(size=(36, 36)) / 6
    weight_OP = rng.laplace(size=(24, 36))
    bit_costs = BitCosts.count([np.rint(weight_OP / 0.5).astype(np.int64).reshape(24, 4, 9)])
    cost = cost_of(inputs.T @ inputs / 400, between.T @ between / 40)
    return weight_OP, cost, bit_costs, activity_classes(np.zeros((24, 4, 9), np.int64))


def test_outputs_compensate_one_another() -> None:
    weight_OP, true, bit_costs, classes = layer_of_related_outputs()
    alone = dataclasses.replace(true, outputs_OO=np.diag(np.diag(true.outputs_OO)))
    costs = []
    for cost in (alone, true):
        codes_OP, scales_O = round_layer(
            weight_OP, cost, np.full(24, 0.25), bit_costs, classes, lambda_=0.0, width=FOUR
        )
        error_OP = levels_of_codes(codes_OP) * scales_O[:, None] - weight_OP
        costs.append(float(true.of(error_OP).sum()))
    assert costs[1] < 0.7 * costs[0]


def test_blocks_of_outputs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_OP, cost, bit_costs, classes = layer_of_related_outputs()
    found = []
    for block in (1, 5, 24, 32):
        monkeypatch.setattr(trellis_rounding, "OUTPUT_BLOCK", block)
        found.append(
            round_layer(
                weight_OP, cost, np.full(24, 0.25), bit_costs, classes, lambda_=0.01, width=FOUR
            )
        )
    for codes_OP, scales_O in found[1:]:
        np.testing.assert_array_equal(codes_OP, found[0][0])
        np.testing.assert_array_equal(scales_O, found[0][1])


def test_each_output_is_rounded_at_its_own_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_OP, cost, bit_costs, classes = layer_of_related_outputs()
    seen: list[float] = []

    def keep(*arguments: Any) -> float:
        *_, codes_P, curvature = arguments[:9]
        seen.append(curvature)
        codes_P[:] = 0
        return 0.0

    monkeypatch.setattr(trellis_rounding, "round_output", keep)
    round_layer(weight_OP, cost, np.full(24, 0.25), bit_costs, classes, lambda_=0.01, width=FOUR)
    np.testing.assert_allclose(seen, cost.output_curvature_O)


def test_arrays_of_different_outputs_are_refused() -> None:
    shapes = ((9,), (9, 9), (9, 9), (16, 9, 16), (16, 9, 16), (16, 128))
    arrays = [np.ones(shape, np.float32 if i == 2 else float) for i, shape in enumerate(shapes)]
    rest = (np.zeros(9, np.uint8), np.zeros(9, np.int16), 1.0, 1.0, 9)
    _native.round_output(*arrays, *rest, 1, True, 0.0)
    for i in range(len(arrays)):
        wrong = [np.zeros(7) if j == i else array for j, array in enumerate(arrays)]
        with pytest.raises(ValueError, match="one output"):
            _native.round_output(*wrong, *rest, 1, True, 0.0)
    with pytest.raises(ValueError, match="one output"):
        _native.round_output(*arrays, rest[0] + 16, *rest[1:], 1, True, 0.0)
    for survivors in (0, 17):
        with pytest.raises(ValueError, match="one output"):
            _native.round_output(*arrays, *rest, survivors, True, 0.0)
