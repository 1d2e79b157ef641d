"""The search over a whole network, at one λ."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.rate_distortion import level_search
from squeezenet.compress.rate_distortion.layer_inputs import MIN_IMAGES
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.evaluation.metrics import compare
from squeezenet.evaluation.predict import predict
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from tests.compress.conftest import digit_batches, search_of

TWO = SearchWidth(survivors=2, scales=3)


def measured_divergence(folded: LoadedModel, network: QuantizedNetwork) -> float:
    """KL divergence of the folded network's predictions for the test digits, in nats."""
    model = CompressedModel(record=folded.record, layers=network.layers())
    batches, prep = digit_batches(folded), folded.record.preprocessing
    predictions = [
        predict(from_pixels(m.logits, prep), folded.record, batches)
        for m in (from_compressed(model), folded)
    ]
    return compare(*predictions).kl


def test_lambda_for_a_divergence(search: LevelSearch, graph: Graph) -> None:
    num_weights = sum(conv.num_weights for conv in graph.convs)
    assert search.num_weights == num_weights
    assert search.lambda_for(0.5) == pytest.approx(2 * math.log(2) * 0.5 / num_weights)
    # Fine rounding on a trellis is predicted to cost less, but not by much.
    fine = search.round(search.lambda_for(1e-3), NARROWEST)
    assert 0.3e-3 < search.predicted_divergence(fine) < 1.5e-3


def test_finer_levels_diverge_less(folded: LoadedModel, search: LevelSearch) -> None:
    coarse, fine = (search.round(search.lambda_for(d), TWO) for d in (0.3, 0.003))
    assert search.predicted_divergence(fine) < search.predicted_divergence(coarse) / 20
    before = measured_divergence(folded, coarse)
    assert measured_divergence(folded, fine) < before / 10
    assert coarse.lambda_ == search.lambda_for(0.3)
    assert coarse.density() < fine.density()


def test_the_first_layer_has_no_trellis(quantized: QuantizedNetwork, graph: Graph) -> None:
    assert list(quantized.levels) == [conv.name for conv in graph.convs]
    assert [layer.trellis for layer in quantized.levels.values()] == [
        i > 0 for i in range(len(graph.convs))
    ]


def test_predictions_are_sums_over_outputs(
    search: LevelSearch, quantized: QuantizedNetwork
) -> None:
    errors = search.predicted_errors(quantized)
    assert list(errors) == list(quantized.levels)
    total = sum(float(errors_O.sum()) for errors_O in errors.values())
    assert search.predicted_divergence(quantized) == pytest.approx(total)
    assert all(len(errors[name]) == len(x.scales_O) for name, x in quantized.levels.items())


def test_estimates_are_near(search: LevelSearch) -> None:
    lambda_ = search.lambda_for(0.05)
    estimate, found = search.estimate(lambda_), search.round(lambda_, TWO)
    assert estimate.density() == pytest.approx(found.density(), rel=0.05)
    assert search.predicted_divergence(found) < 1.05 * search.predicted_divergence(estimate)


def test_threads_change_nothing(search: LevelSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search.round(1e-4, TWO)
    threads = torch.get_num_threads()
    monkeypatch.setattr(level_search.torch, "get_num_threads", lambda: threads + 2)
    again = search.round(1e-4, TWO)
    for name, layer in found.levels.items():
        np.testing.assert_array_equal(layer.codes_OP, again.levels[name].codes_OP)


def test_layers_make_up_for_those_before_them(
    folded: LoadedModel, graph: Graph, search: LevelSearch
) -> None:
    """At about the same size, the divergence is a quarter lower or more."""
    lambda_ = search.lambda_for(0.5)
    alone = search.round(lambda_, TWO)
    paired = search_of(folded, graph, 400).round(lambda_, TWO)
    assert paired.density() == pytest.approx(alone.density(), rel=0.05)
    before, after = (measured_divergence(folded, each) for each in (alone, paired))
    print(before, after)
    assert after < 0.75 * before


def test_few_images_are_not_enough(folded: LoadedModel, graph: Graph, search: LevelSearch) -> None:
    few = search_of(folded, graph, MIN_IMAGES - 1).round(1e-4, TWO)
    alone = search.round(1e-4, TWO)
    for name, layer in alone.levels.items():
        np.testing.assert_array_equal(layer.codes_OP, few.levels[name].codes_OP)
