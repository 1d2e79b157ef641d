"""A network with some outputs rounded and the others trained."""

from __future__ import annotations

import numpy as np
import torch

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.rate_distortion.level_search import FixedOutputs, LevelSearch
from squeezenet.compress.rate_distortion.partly_rounded import BIAS_UNIT, PartlyRoundedNetwork
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel


def test_it_predicts_as_the_network_it_starts_from(
    folded: LoadedModel, graph: Graph, search: LevelSearch, quantized: QuantizedNetwork
) -> None:
    model = CompressedModel(record=folded.record, layers=quantized.layers())
    x_NCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for rounded, wanted in ((True, from_compressed(model)), (False, folded)):
        outputs = {name: np.full(len(x.scales_O), rounded) for name, x in quantized.levels.items()}
        fixed = FixedOutputs(network=quantized, outputs=outputs)
        network = PartlyRoundedNetwork(folded.module, graph, fixed, search.weights)
        torch.testing.assert_close(network(x_NCHW), wanted.module.eval()(x_NCHW))


def test_rounded_and_pruned_weights_stay_when_all_are_trained(
    folded: LoadedModel, graph: Graph, search: LevelSearch, quantized: QuantizedNetwork
) -> None:
    half = {name: np.arange(len(x.scales_O)) % 2 == 0 for name, x in quantized.levels.items()}
    pruned = {
        name: (weight * (np.arange(weight[0].size) % 3 > 0).reshape(weight[0].shape), bias)
        for name, (weight, bias) in search.weights.items()
    }
    fixed = FixedOutputs(network=quantized, outputs=half)
    network = PartlyRoundedNetwork(folded.module, graph, fixed, pruned)
    before = network.weights()
    network(torch.randn(4, 1, 8, 8)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter -= torch.randn(parameter.shape)
    network.hold()
    weights = network.weights()
    for conv in graph.convs:
        layer, outputs = quantized.levels[conv.name], half[conv.name]
        weight_OP = weights[conv.name][0].reshape(conv.out_channels, -1)
        same_O = (np.abs(weight_OP - layer.weight_OP) < 1e-6).all(axis=1)
        np.testing.assert_array_equal(same_O, outputs)
        free_OP = weight_OP[~outputs]
        assert not free_OP[:, ::3].any()
        assert free_OP[:, 1::3].all() and free_OP[:, 2::3].all()
        assert (weights[conv.name][1] != before[conv.name][1]).all()


def test_units_of_the_parameters(
    folded: LoadedModel, graph: Graph, search: LevelSearch, quantized: QuantizedNetwork
) -> None:
    """A step of 1 is a level of a weight, and a tenth of the layer's mean bias."""
    none = {name: np.zeros(len(x.scales_O), np.bool_) for name, x in quantized.levels.items()}
    fixed = FixedOutputs(network=quantized, outputs=none)
    network = PartlyRoundedNetwork(folded.module, graph, fixed, search.weights)
    before = network.weights()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    after = network.weights()
    for name, layer in quantized.levels.items():
        by_output_O = (after[name][0] - before[name][0]).reshape(len(layer.scales_O), -1)
        np.testing.assert_allclose(by_output_O.mean(axis=1), layer.scales_O, rtol=1e-4)
        bias_O = search.weights[name][1]
        wanted = max(np.abs(bias_O).mean(), 1e-6) * BIAS_UNIT
        np.testing.assert_allclose(after[name][1] - before[name][1], wanted, rtol=1e-3)
