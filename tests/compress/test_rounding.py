"""Curvature, rates and rounding: what they foretell is what comes."""

from __future__ import annotations

import numpy as np
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.types import CompressedLayer, LevelWeights
from squeezenet.codec.weights import encode_weights
from squeezenet.compress.curvature import measure_curvature
from squeezenet.compress.rates import Rates, activity_classes, context_places
from squeezenet.compress.rounding import Feedback, descend_layer, round_layer
from squeezenet.data.digits import load_digits
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.images.topk import kl_divergence
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


def test_no_curvature_between_inputs_and_no_price_round_to_nearest() -> None:
    rng = np.random.default_rng(0)
    weight_OP = rng.normal(size=(8, 18))
    flat = Rates(
        zero_SPC=np.zeros((16, 9, 16)), nonzero_SPC=np.zeros((16, 9, 16)),
        magnitude_CM=np.zeros((16, 128)),
    )  # fmt: skip
    found = round_layer(
        weight_OP, Feedback.of(np.eye(18), 9), np.ones(8), np.full(8, 0.25), flat,
        np.zeros((8, 2, 9), np.int64), nats_a_bit=0.0,
    )  # fmt: skip
    np.testing.assert_array_equal(found, np.rint(weight_OP / 0.25))


def test_feedback_helps_and_a_price_saves_bits() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 36)) @ rng.normal(size=(36, 36))
    hessian = inputs.T @ inputs / 400
    weight_OP = rng.normal(size=(16, 36))
    steps_O = np.full(16, 0.5)
    plain = np.rint(weight_OP / 0.5).astype(np.int64)
    shape = (16, 4, 9)
    rates = Rates.of([plain.reshape(shape)])
    classes = activity_classes(plain.reshape(shape))

    def cost(levels: np.ndarray) -> float:
        error = weight_OP - levels * 0.5
        return float(np.einsum("op,pq,oq->", error, hessian, error))

    found = [
        round_layer(
            weight_OP, Feedback.of(hessian, 9), np.ones(16), steps_O, rates, classes,
            nats_a_bit=price,
        )
        for price in (0.0, 1.0, 30.0)
    ]  # fmt: skip
    assert cost(found[0]) < 0.6 * cost(plain)
    num_zeros = [int((levels == 0).sum()) for levels in found]
    assert num_zeros[0] < num_zeros[1] < num_zeros[2]
    assert cost(found[0]) < cost(found[1]) < cost(found[2])


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
        assert abs(layer.share_O.sum() - conv.groups) < 1e-9
        weight = module.get_submodule(conv.key).weight
        kept = weight.detach().clone()
        foretold = found = 0.0
        for _ in range(4):
            change = rng.normal(size=kept.shape) * 0.03 * float(kept.std())
            d_OP = change.reshape(conv.out_channels, -1)
            foretold += 0.5 * float(
                np.einsum("o,op,pq,oq->", layer.share_O, d_OP, layer.fisher_GPP[0], d_OP)
            )
            with torch.no_grad():
                weight += torch.from_numpy(change).float()
            found += float(kl_divergence(before, model.logits(x_NCHW)).mean())
            with torch.no_grad():
                weight.copy_(kept)
        # Outputs share one matrix and answers are drawn, so only about so.
        assert 0.4 < foretold / found < 2.5, (conv.name, foretold, found)


def test_descent_lowers_distortion_and_bits() -> None:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(400, 36)) @ rng.normal(size=(36, 36))
    hessian = inputs.T @ inputs / 400
    weight_OP = rng.normal(size=(16, 36))
    step, price, shape = 0.5, 0.02, (16, 4, 9)
    levels = np.rint(weight_OP / step).astype(np.int64)
    rates = Rates.of([levels.reshape(shape)])
    classes = activity_classes(levels.reshape(shape))

    def cost(levels: np.ndarray) -> float:
        error = levels * step - weight_OP
        places = np.zeros((16, 4, 9), np.int64) + np.arange(9)
        sums, _ = context_places(levels.reshape(shape))
        bits = np.where(
            levels.reshape(shape) == 0,
            rates.zero_SPC[sums, places, classes],
            rates.nonzero_SPC[sums, places, classes]
            + rates.magnitude_CM[classes, np.abs(levels.reshape(shape))],
        ).sum()
        return float(np.einsum("op,pq,oq->", error, hessian, error) / 2 + price * bits)

    before = cost(levels)
    for _ in range(2):
        slope = (levels * step - weight_OP) @ hessian
        levels = descend_layer(
            levels, slope, hessian, np.ones(16), np.full(16, step), rates, classes,
            nats_a_bit=price,
        )  # fmt: skip
    assert cost(levels) < 0.9 * before
