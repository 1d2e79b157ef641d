"""Curvature, rates and rounding: what they foretell is what comes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from squeezenet import _native
from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.trellis import to_levels
from squeezenet.codec.types import CompressedLayer, LevelWeights
from squeezenet.compress.rate_distortion.bit_costs import Rates, activity_classes, context_places
from squeezenet.compress.rate_distortion.curvature import measure_curvature
from squeezenet.compress.rate_distortion.trellis_rounding import (
    Breadth,
    ErrorCost,
    feedback,
    round_layer,
)
from squeezenet.data.digits import load_digits
from squeezenet.evaluation.metrics import kl_divergence
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.init import initialise
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.network import build_module


def levels_of(shape: tuple[int, int, int], spread: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    channels = np.exp(rng.normal(0, 0.7, (1, shape[1], 1)))
    return np.rint(rng.laplace(0, spread, shape) * channels).clip(-127, 127).astype(np.int64)


def test_rates_are_what_the_coder_spends() -> None:
    for shape, side, spread in (((96, 64, 1), 1, 1.5), ((64, 48, 9), 3, 0.6)):
        levels_OIK = levels_of(shape, spread)
        rates = Rates.of([levels_OIK])
        classes = activity_classes(levels_OIK)
        sums, places = context_places(levels_OIK)
        bits = np.where(
            levels_OIK == 0,
            rates.zero_SPC[sums, places, classes],
            rates.nonzero_SPC[sums, places, classes]
            + rates.magnitude_CM[classes, np.abs(levels_OIK)],
        ).sum()
        levels_OIHW = levels_OIK.reshape(*shape[:2], side, side).astype(np.int8)
        ones = np.ones(shape[0], np.float32)
        layer = CompressedLayer(
            name="x",
            weights=LevelWeights(levels_OIHW=levels_OIHW, scales_O=ones),
            bias_O=0 * ones,
        )
        # The coder pays for learning, too.
        assert 0.96 < bits / 8 / len(encode_weights([layer])) < 1.02


FOUR = Breadth(paths=4, steps=1)


def rounded(
    weight_OP: np.ndarray, hessian: np.ndarray, step: float, price: float, breadth: Breadth = FOUR
) -> tuple[np.ndarray, float]:
    """Levels of 3x3 kernels, and what they cost: distortion, and bits at ``price``."""
    shape = (len(weight_OP), len(hessian) // 9, 9)
    plain_OP = np.rint(weight_OP / step / 2).clip(-63, 63).astype(np.int64)
    rates = Rates.of([plain_OP.reshape(shape)])
    classes = activity_classes(np.zeros(shape, np.int64))
    cost = ErrorCost(
        inputs_PP=hessian, inputs_feedback_PP=feedback(hessian), outputs_OO=np.eye(len(weight_OP))
    )
    steps_O = np.full(len(weight_OP), step)
    codes_OP, scales_O = round_layer(
        weight_OP, cost, steps_O, rates, classes, nats_a_bit=price, breadth=breadth
    )
    sums, places = context_places(codes_OP.reshape(shape))
    bits = np.where(
        codes_OP.reshape(shape) == 0,
        rates.zero_SPC[sums, places, 0],
        rates.nonzero_SPC[sums, places, 0] + rates.magnitude_CM[0, np.abs(codes_OP.reshape(shape))],
    ).sum()
    rows = codes_OP.tolist()
    for row in rows:
        to_levels(row)
    error = np.array(rows) * scales_O[:, None] - weight_OP
    distortion = float(np.einsum("op,pq,oq->", error, hessian, error)) / 2
    return np.array(rows), distortion + price * float(bits)


def correlated_layer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(48, 360) weights, and the inputs' matrix."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(4000, 360)) @ rng.normal(size=(360, 360)) / 19
    return rng.laplace(size=(48, 360)), inputs.T @ inputs / 4000


def test_a_trellis_gains_its_decibel() -> None:
    """Every other level of a grid is as coarse as two steps, on a trellis 1 dB finer."""
    weight_OP = np.random.default_rng(0).uniform(-4, 4, size=(64, 576))
    levels_OP, _ = rounded(weight_OP, np.eye(576), 0.25, 0.0)
    error = np.square(levels_OP * 0.25 - weight_OP).mean()
    assert 0.5**2 / 12 / 1.35 < error < 0.5**2 / 12 / 1.2


def test_feedback_helps_and_a_price_saves_bits() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 36)) @ rng.normal(size=(36, 36))
    hessian = inputs.T @ inputs / 400
    weight_OP = rng.normal(size=(16, 36))
    plain, _ = rounded(weight_OP, np.eye(36), 0.25, 0.0)

    def cost(levels_OP: np.ndarray) -> float:
        error = weight_OP - levels_OP * 0.25
        return float(np.einsum("op,pq,oq->", error, hessian, error))

    found = [rounded(weight_OP, hessian, 0.25, price)[0] for price in (0.0, 0.3, 10.0)]
    assert cost(found[0]) < 0.6 * cost(plain)
    num_zeros = [int((levels == 0).sum()) for levels in found]
    assert num_zeros[0] < num_zeros[1] < num_zeros[2]
    assert cost(found[0]) < cost(found[1]) < cost(found[2])


def test_more_paths_cost_less() -> None:
    weight_OP, hessian = correlated_layer(2)
    costs = [
        rounded(weight_OP, hessian, 0.5, 0.05, Breadth(paths=paths, steps=1))[1]
        for paths in (1, 4, 16)
    ]
    assert costs[0] > 1.01 * costs[1] > 1.01 * costs[2]


def test_more_steps_to_choose_from_cost_less() -> None:
    weight_OP, hessian = correlated_layer(4)
    costs = [
        rounded(weight_OP, hessian, 0.5, 0.05, Breadth(paths=2, steps=steps))[1]
        for steps in (1, 3, 9)
    ]
    assert costs[0] > 1.003 * costs[1] > 1.003 * costs[2]


def test_what_a_way_is_said_to_cost_is_what_it_costs() -> None:
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(4000, 1080)) @ rng.normal(size=(1080, 1080)) / 33
    hessian = inputs.T @ inputs / 4000
    weight_P, upper_PP = rng.laplace(size=1080), np.ascontiguousarray(feedback(hessian))
    codes_P = np.empty(1080, np.int16)
    # Where zeros cost 1 bit, all others 3.
    nats = _native.round_output(
        weight_P,
        upper_PP,
        np.ascontiguousarray(upper_PP.T, np.float32),
        np.full((16, 9, 16), 1.0),
        np.full((16, 9, 16), 2.0),
        np.full((16, 128), 1.0),
        np.zeros(1080, np.uint8),
        codes_P,
        0.8,
        0.5,
        9,
        8,
        True,
        0.02,
    )
    levels = codes_P.tolist()
    to_levels(levels)
    error_P = np.linalg.solve(upper_PP.T, weight_P - 0.5 * np.array(levels))
    bits = 1080 + 2 * np.count_nonzero(codes_P)
    assert abs(nats / (0.4 * float(error_P @ error_P) + 0.02 * bits) - 1) < 1e-3


def test_what_is_too_large_stays_within_bytes() -> None:
    weight_OP = np.linspace(-300, 300, 72).reshape(2, 36)
    levels_OP, _ = rounded(weight_OP, np.eye(36), 1.0, 0.0)
    assert 120 < np.abs(levels_OP).max() < 127
    inside = np.abs(weight_OP) < 120
    assert np.abs(levels_OP - weight_OP)[inside].max() <= 2


def test_outputs_make_good_for_one_another() -> None:
    rng = np.random.default_rng(3)
    between = rng.normal(size=(40, 24)) @ np.diag(np.geomspace(1, 0.05, 24))
    outputs_OO = between.T @ between / 40
    inputs = rng.normal(size=(400, 36)) @ rng.normal(size=(36, 36)) / 6
    inputs_PP = inputs.T @ inputs / 400
    weight_OP = rng.laplace(size=(24, 36))
    rates = Rates.of([np.rint(weight_OP / 0.5).astype(np.int64).reshape(24, 4, 9)])
    classes = activity_classes(np.zeros((24, 4, 9), np.int64))
    true = ErrorCost(
        inputs_PP=inputs_PP, inputs_feedback_PP=feedback(inputs_PP), outputs_OO=outputs_OO
    )
    alone = dataclasses.replace(true, outputs_OO=np.diag(np.diag(outputs_OO)))
    costs = []
    for cost in (alone, true):
        codes_OP, scales_O = round_layer(
            weight_OP, cost, np.full(24, 0.25), rates, classes, nats_a_bit=0.0, breadth=FOUR
        )
        rows = codes_OP.tolist()
        for row in rows:
            to_levels(row)
        error_OP = np.array(rows) * scales_O[:, None] - weight_OP
        direct = np.einsum("op,pq,rq,or->", error_OP, inputs_PP, error_OP, outputs_OO) / 2
        costs.append(float(true.of(error_OP).sum()))
        assert abs(costs[-1] / direct - 1) < 1e-9
    assert costs[1] < 0.7 * costs[0]


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
    for paths in (0, 17):
        with pytest.raises(ValueError, match="one output"):
            _native.round_output(*arrays, *rest, paths, True, 0.0)


def test_curvature_foretells_the_divergence(tiny_record: ModelRecord) -> None:
    torch.manual_seed(0)
    module = build_module(tiny_record.spec)
    initialise(module, tiny_record.spec, "he", 0)
    model = LoadedModel(record=tiny_record, module=module)
    graph = build_graph(tiny_record.spec)
    images = load_digits()["train"].subset(list(range(256)))
    batches = EvalBatches(images, tiny_record.preprocessing, workers=0)
    curvature = measure_curvature(model, graph, batches, seed=0)
    again = measure_curvature(model, graph, batches, seed=0)
    x_NCHW = np.concatenate([normalise(b.pixels_NHWC, tiny_record.preprocessing) for b in batches])
    before = model.logits(x_NCHW)
    rng = np.random.default_rng(0)
    for conv in graph.convs:
        layer = curvature[conv.name]
        np.testing.assert_array_equal(layer.fisher_GPP, again[conv.name].fisher_GPP)
        assert abs(np.trace(layer.output_GQQ[0]) - 1) < 1e-9
        weight = module.get_submodule(conv.key).weight
        kept = weight.detach().clone()
        foretold = found = 0.0
        for _ in range(4):
            change = rng.normal(size=kept.shape) * 0.03 * float(kept.std())
            d_OP = change.reshape(conv.out_channels, -1)
            foretold += 0.5 * float(
                np.sum((layer.output_GQQ[0] @ d_OP @ layer.fisher_GPP[0]) * d_OP)
            )
            with torch.no_grad():
                weight += torch.from_numpy(change).float()
            found += float(kl_divergence(before, model.logits(x_NCHW)).mean())
            with torch.no_grad():
                weight.copy_(kept)
        # Outputs share one matrix and answers are drawn, so only about so.
        assert 0.4 < foretold / found < 2.5, (conv.name, foretold, found)
