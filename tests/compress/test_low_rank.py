"""Fully connected layers as products of two thin matrices."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.arch.spec import AlexNetSpec, ConvSpec, PoolSpec
from squeezenet.compress.low_rank import (
    from_low_rank_state,
    fully_connected,
    low_rank_bytes,
    ranks_of,
    with_low_rank,
)
from squeezenet.errors import UsageError
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.network import build_module
from tests.conftest import record_of

SMALL_ALEXNET = AlexNetSpec(
    name="alexnet_small",
    convs=(ConvSpec(out_channels=6, kernel=3, padding=1),),
    pools=(PoolSpec(after="conv1"),),
    hidden=(40, 30),
    num_classes=5,
    input_channels=1,
    input_size=(8, 8),
)


@pytest.fixture
def alexnet() -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(record=record_of(SMALL_ALEXNET), module=build_module(SMALL_ALEXNET))


def logits(model: LoadedModel, module: torch.nn.Module) -> np.ndarray:
    x_NCHW = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    return dataclasses.replace(model, module=module).logits(x_NCHW)


def test_a_low_rank_layer_is_the_best_approximation(alexnet: LoadedModel) -> None:
    graph = build_graph(alexnet.record.spec)
    assert [conv.name for conv in fully_connected(graph)] == ["fc2", "fc3", "fc4"]
    whole = low_rank_bytes(graph, {})
    assert whole == 4 * sum(p.numel() for p in alexnet.module.parameters())
    module = with_low_rank(alexnet, whole // 3)
    size = 4 * sum(p.numel() for p in module.parameters())
    assert whole // 4 < size <= whole // 3
    weight = alexnet.module.get_submodule("fc2").weight.detach().flatten(1).double()
    product = module.get_submodule("fc2")
    rank = product.inner.out_channels
    outer, inner = (each.weight.detach().flatten(1) for each in (product.outer, product.inner))
    made = outer.double() @ inner.double()
    rest = torch.linalg.svdvals(weight)[rank:].square().sum()
    assert float((made - weight).square().sum()) == pytest.approx(float(rest), rel=1e-4)
    # Nothing else has changed.
    assert torch.equal(module.conv1.weight, alexnet.module.conv1.weight)
    assert torch.equal(product.outer.bias, alexnet.module.fc2.bias)


def test_ranks_that_are_exact_change_nothing(alexnet: LoadedModel) -> None:
    """A matrix of rank 2 keeps its network's outputs at any budget that has room for rank 2."""
    layer = alexnet.module.get_submodule("fc2")
    with torch.no_grad():
        rows, columns = layer.weight.shape[0], layer.weight[0].numel()
        thin = torch.randn(rows, 2) @ torch.randn(2, columns)
        layer.weight.copy_(thin.reshape(layer.weight.shape))
    graph = build_graph(alexnet.record.spec)
    module = with_low_rank(alexnet, low_rank_bytes(graph, {"fc2": 4}))
    before, after = logits(alexnet, alexnet.module), logits(alexnet, module)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_batch_normalisation_stays(alexnet: LoadedModel) -> None:
    """Folded, the network with it has the weights that the folded one would have."""
    spec = dataclasses.replace(SMALL_ALEXNET, batch_norm=True)
    model = LoadedModel(record=record_of(spec), module=build_module(spec))
    for layer in model.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.normal_(layer.bias)
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 2)
    graph = build_graph(spec)
    folded = fold_batch_norm(model)
    max_bytes = low_rank_bytes(graph, {}) // 3
    with_norm, without = with_low_rank(model, max_bytes), with_low_rank(folded, max_bytes)
    assert ranks_of(with_norm, graph) == ranks_of(without, graph)
    assert low_rank_bytes(graph, ranks_of(without, graph)) == 4 * sum(
        p.numel() for p in without.parameters()
    )
    np.testing.assert_allclose(
        logits(model, with_norm), logits(folded, without), rtol=1e-3, atol=1e-4
    )


def test_a_state_is_read_back(alexnet: LoadedModel) -> None:
    graph = build_graph(alexnet.record.spec)
    module = with_low_rank(alexnet, low_rank_bytes(graph, {}) // 2)
    again = from_low_rank_state(alexnet, module.state_dict())
    np.testing.assert_array_equal(logits(alexnet, module), logits(alexnet, again))


def test_what_cannot_be_made_smaller_is_refused(alexnet: LoadedModel, folded: LoadedModel) -> None:
    with pytest.raises(UsageError, match="of rank 1, expected at most 100; its conv"):
        with_low_rank(alexnet, 100)
    with pytest.raises(UsageError, match="no fully connected layer"):
        with_low_rank(folded, 10_000)
