"""Optimisers by their definitions, and which of them has which weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from squeezenet.arch.presets import preset
from squeezenet.model.network import build_module
from squeezenet.train.optimizers import Muon, Optimizers, orthogonalise
from squeezenet.train.recipe import Recipe, recipe_named


def quintic(s: np.ndarray) -> np.ndarray:
    """Jordan's iteration on singular values, five times."""
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (1, 5)])
def test_orthogonalise_is_the_quintic_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    values = quintic(s / np.linalg.norm(s))
    assert values.min() > 0.6 and values.max() < 1.3
    np.testing.assert_allclose(orthogonalise(matrix).numpy(), u * values @ vt, atol=1e-4)
    assert torch.equal(orthogonalise(torch.zeros(*shape)), torch.zeros(*shape))


def test_a_tiny_gradient_is_not_blown_up() -> None:
    # The norm is taken plus 1e-7: a gradient of that size has half of a direction's length.
    tiny = torch.zeros(2, 2)
    tiny[0, 0] = 1e-7
    expected = quintic(np.array([0.5]))[0]
    assert float(orthogonalise(tiny)[0, 0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (40, 4, 1, 1), (4, 4, 1, 1)])
def test_muon_by_its_definition(shape: tuple[int, ...]) -> None:
    """Two steps: momentum 0.8, Nesterov, scaled by sqrt(rows / columns) if tall, decay."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(*shape, generator=generator))
    optimizer = Muon([weight], lr=0.1, momentum=0.8, decay=0.5)
    expected = weight.detach().double().numpy().reshape(len(weight), -1)
    momentum = np.zeros_like(expected)
    rows, columns = expected.shape
    for _ in range(2):
        weight.grad = torch.randn(*shape, generator=generator)
        grad = weight.grad.double().numpy().reshape(rows, columns)
        momentum = 0.8 * momentum + grad
        u, s, vt = np.linalg.svd(grad + 0.8 * momentum, full_matrices=False)
        direction = u * quintic(s / np.linalg.norm(s)) @ vt
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * max(1, rows / columns) ** 0.5 * direction
        optimizer.step()
    got = weight.detach().numpy().reshape(rows, columns)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_muon_treats_a_convolution_as_a_matrix_in_any_memory_order() -> None:
    start, gradient = torch.randn(2, 6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    ends = []
    for order in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone(memory_format=order))
        weight.grad = gradient.clone(memory_format=order)
        Muon([weight], lr=0.1, decay=0.5).step()
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0], ends[1])


def test_muon_leaves_parameters_without_gradient_alone() -> None:
    first, second = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    second.grad = torch.eye(2)
    optimizer = Muon([first, second], lr=0.1, decay=0.5)
    assert optimizer.step(lambda: 3.5) == 3.5
    assert optimizer.step() is None
    assert torch.equal(first, torch.ones(2, 2)) and not torch.equal(second, torch.ones(2, 2))


def test_muon_has_the_hidden_convolutions_alone() -> None:
    module = build_module(preset("squeezenet_tiny"))
    recipe = recipe_named("small")
    optimizers = Optimizers(module, recipe)
    sgd, muon = optimizers._all
    names = {id(p): name for name, p in module.named_parameters()}
    (group,) = muon.param_groups
    of_muon = {names[id(p)] for p in group["params"]}
    assert "features.0.weight" not in of_muon and "classifier.1.weight" not in of_muon
    assert len(of_muon) == 12  # four Fire modules of three convolutions
    assert (group["lr"], group["momentum"], group["decay"]) == (
        recipe.matrix_rate, recipe.momentum, recipe.matrix_decay,
    )  # fmt: skip
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
    assert muon.param_groups[0]["lr"] == recipe.matrix_rate / 2


def test_large_matrices_are_left_to_sgd() -> None:
    def num_optimizers(rows: int, columns: int) -> int:
        module = nn.Sequential(nn.Linear(4, columns), nn.Linear(columns, rows), nn.Linear(rows, 2))
        return len(Optimizers(module, recipe_named("small"))._all)

    assert num_optimizers(1025, 1025) == 1
    assert num_optimizers(1024, 1025) == num_optimizers(1025, 1024) == 2


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, True)])
def test_sgd_is_torchs(momentum: float, nesterov: bool) -> None:
    recipe = Recipe(name="x", learning_rate=0.3, momentum=momentum, nesterov=nesterov)
    ours = Optimizers(nn.Linear(2, 2), recipe)._all
    assert len(ours) == 1 and isinstance(ours[0], torch.optim.SGD)
    for group in ours[0].param_groups:
        assert (group["lr"], group["momentum"]) == (0.3, momentum)
        assert group["nesterov"] == (nesterov and momentum > 0)


def test_adam_is_torchs() -> None:
    recipe = Recipe(name="x", learning_rate=0.3, momentum=0.8, optimizer="adam")
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    (adam,) = Optimizers(module, recipe)._all
    assert isinstance(adam, torch.optim.Adam)
    assert {group["betas"] for group in adam.param_groups} == {(0.8, 0.99)}


def test_what_decays() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    module[2].bias.requires_grad_(False)
    for decay_all, decayed in ((False, {"0.weight", "2.weight"}), (True, None)):
        recipe = Recipe(name="x", weight_decay=0.01, decay_all=decay_all)
        (sgd,) = Optimizers(module, recipe)._all
        names = {id(p): name for name, p in module.named_parameters()}
        found = {
            names[id(p)]
            for group in sgd.param_groups
            for p in group["params"]
            if group["weight_decay"] == 0.01
        }
        all_names = {names[id(p)] for group in sgd.param_groups for p in group["params"]}
        assert all_names == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight"}
        assert found == (all_names if decayed is None else decayed)


def test_states_are_saved_and_gradients_cleared() -> None:
    recipe = dataclasses.replace(recipe_named("small"), learning_rate=0.1)
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    optimizers = Optimizers(module, recipe)
    module(torch.ones(1, 2)).sum().backward()
    optimizers.step()
    optimizers.zero_grad()
    assert all(p.grad is None for p in module.parameters())
    states = optimizers.state_dict()
    assert [len(state["state"]) for state in states] == [5, 1]
    other = Optimizers(module, recipe)
    other.load_state_dict(states)
    (momentum,) = (entry["momentum"] for entry in other.state_dict()[1]["state"].values())
    assert torch.equal(momentum, states[1]["state"][0]["momentum"])
