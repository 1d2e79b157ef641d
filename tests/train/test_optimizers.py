"""Muon by its definition, and which optimiser has which weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from squeezenet.arch.presets import preset
from squeezenet.model.network import build_module
from squeezenet.train.optimizers import Muon, Optimizers, orthogonalise
from squeezenet.train.recipe import recipe_named


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (1, 5)])
def test_orthogonalise_keeps_directions_and_evens_their_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrix)
    s = torch.linalg.svdvals(result)
    assert float(s.min()) > 0.6 and float(s.max()) < 1.3
    a, _, bh = torch.linalg.svd(matrix, full_matrices=False)
    # U V^T of a polar decomposition is unique: nearly this, with singular values near 1.
    assert float((a.T @ result @ bh.T).diag().min()) > 0.5
    assert torch.equal(orthogonalise(torch.zeros(*shape)), torch.zeros(*shape))


def test_muon_treats_a_convolution_as_a_matrix_in_any_memory_order() -> None:
    start, gradient = torch.randn(2, 6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    ends = []
    for order in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone(memory_format=order))
        weight.grad = gradient.clone(memory_format=order)
        Muon([weight], lr=0.1, decay=0.5).step()
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0], ends[1])
    step = ((1 - 0.1 * 0.5) * start - ends[0]).flatten(1) / 0.1
    assert float(torch.linalg.svdvals(step).min()) > 0.6


def test_muon_has_the_hidden_convolutions_alone() -> None:
    module = build_module(preset("squeezenet_tiny"))
    recipe = recipe_named("small")
    optimizers = Optimizers(module, recipe)
    sgd, muon = optimizers._all
    names = {id(p): name for name, p in module.named_parameters()}
    of_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert "features.0.weight" not in of_muon and "classifier.1.weight" not in of_muon
    assert len(of_muon) == 12  # four Fire modules of three convolutions
    rates = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in sgd.param_groups
        for p in group["params"]
    }
    assert of_muon | rates.keys() == set(names.values()) and not of_muon & rates.keys()
    base = recipe.learning_rate
    assert rates["features.0.weight"] == (base, recipe.weight_decay)
    assert rates["classifier.1.bias"] == (base, 0.0)
    optimizers.set_learning_rate_factor(0.5)
    optimizers.set_learning_rate_factor(0.5)
    assert {group["lr"] for group in sgd.param_groups} == {base / 2}


def test_large_matrices_are_left_to_sgd() -> None:
    module = nn.Sequential(nn.Linear(4, 1100), nn.Linear(1100, 1100), nn.Linear(1100, 2))
    assert len(Optimizers(module, recipe_named("small"))._all) == 1
