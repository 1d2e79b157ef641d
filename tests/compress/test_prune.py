"""Magnitude pruning, and how many weights each layer keeps."""

from __future__ import annotations

import pytest
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.compress.prune import (
    lamp_densities,
    layer_densities,
    magnitude_mask,
    magnitude_masks,
    mask_holder,
)
from squeezenet.errors import UsageError
from squeezenet.model.fold import fold_batch_norm
from tests.compress.conftest import untrained_model


def test_magnitude_mask() -> None:
    weight = torch.tensor([0.5, -3.0, 0.0, 2.0, -2.0, 0.1]).reshape(2, 3, 1, 1)
    assert magnitude_mask(weight, 0.5).flatten().tolist() == [False, True, False, True, True, False]
    assert magnitude_mask(weight, 1.0).sum() == 5  # a zero is never kept
    assert magnitude_mask(weight, 1e-9).sum() == 1
    first = magnitude_mask(torch.ones(4, 1, 1, 1), 0.5)  # of equals the earlier
    assert first.flatten().tolist() == [True, True, False, False]
    assert magnitude_mask(weight, 0.4).sum() == 2 and magnitude_mask(weight, 0.42).sum() == 3


def test_densities_by_layer() -> None:
    model = untrained_model()
    graph = build_graph(model.record.spec)
    densities = layer_densities(model.module, graph, 0.4, {"conv1": 0.9})
    assert list(densities) == [conv.name for conv in graph.convs]
    assert densities["conv1"] == 0.9
    kept = {conv.name: densities[conv.name] * conv.num_weights for conv in graph.convs}
    others = sum(conv.num_weights for conv in graph.convs) - graph.convs[0].num_weights
    assert sum(kept.values()) - kept["conv1"] == pytest.approx(0.4 * others, abs=1)
    assert set(layer_densities(model.module, graph, None, {}).values()) == {1.0}
    some = layer_densities(model.module, graph, None, {"conv1": 0.5})
    assert some.pop("conv1") == 0.5 and set(some.values()) == {1.0}
    every = {conv.name: 0.5 for conv in graph.convs}
    assert layer_densities(model.module, graph, 0.1, every) == every
    with pytest.raises(UsageError, match="'conv9': no such layer; expected conv1"):
        layer_densities(model.module, graph, None, {"conv9": 0.5})
    for value in (0.0, -0.1, 1.01):
        with pytest.raises(UsageError, match=f"density of conv1 is {value}"):
            layer_densities(model.module, graph, None, {"conv1": value})
        with pytest.raises(UsageError, match=f"density of all layers is {value}"):
            layer_densities(model.module, graph, value, {})


def test_lamp_by_hand() -> None:
    # Scores of (1, 2) are 1/5 and 1, of (3, 4) 9/25 and 1; a common factor changes nothing.
    weights = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([300.0, 400.0])}
    assert lamp_densities(weights, 0.75) == {"a": 0.5, "b": 1.0}
    assert lamp_densities(weights, 0.5) == {"a": 0.5, "b": 0.5}
    assert lamp_densities(weights, 1.0) == {"a": 1.0, "b": 1.0}
    assert lamp_densities({"a": torch.zeros(4), "b": torch.ones(4)}, 0.5)["b"] == 1.0
    assert lamp_densities({"a": torch.zeros(4), "b": torch.ones(4)}, 0.01)["a"] == 0.25


def test_masks_hold() -> None:
    model = fold_batch_norm(untrained_model())
    graph = build_graph(model.record.spec)
    densities = {conv.name: 0.25 for conv in graph.convs}
    masks = magnitude_masks(model.module, graph, densities)
    hold = mask_holder(graph, masks)
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.module.parameters():
                parameter.add_(1)
        hold(model.module)
        for conv in graph.convs:
            weight = model.module.state_dict()[f"{conv.key}.weight"]
            assert int((weight != 0).sum()) == round(0.25 * conv.num_weights)
