"""A network that computes with rounded levels and trains what they are rounded from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezenet import _native
from squeezenet.arch.graph import Graph
from squeezenet.codec.trellis import levels_of_codes, to_codes, to_levels
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.straight_through import (
    BIAS_UNIT,
    COSTS_EVERY,
    ROUNDED_EVERY,
    SCALE_UNIT,
    StraightThroughNetwork,
)
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel

FREE = (np.zeros((16, 9, 16)), np.zeros((16, 9, 16)), np.zeros((16, 128)))
"""Bits that cost nothing."""


@pytest.fixture
def network(
    folded: LoadedModel, graph: Graph, quantized: QuantizedNetwork
) -> StraightThroughNetwork:
    return StraightThroughNetwork(folded.module, graph, quantized)


def rounded(weight_OP: np.ndarray, tables: tuple[np.ndarray, ...], price: float) -> np.ndarray:
    codes_OP = np.empty(weight_OP.shape, np.int16)
    classes_OP = np.zeros(weight_OP.shape, np.uint8)
    _native.round_levels(
        weight_OP, *tables, classes_OP, codes_OP, weight_OP.shape[1], 1, True, price
    )
    return codes_OP.astype(np.int64)


def all_paths(length: int) -> np.ndarray:
    """Every path of so many codes from -2 to 2, as levels."""
    codes = np.stack(np.meshgrid(*[np.arange(-2, 3)] * length), axis=-1).reshape(-1, length)
    return levels_of_codes(codes)


def test_rounding_finds_the_nearest_path_of_all() -> None:
    paths = all_paths(5)
    weight_OP = np.random.default_rng(1).uniform(-2.5, 2.5, (40, 5))
    found = levels_of_codes(rounded(weight_OP, FREE, 0.0))
    nearest = ((paths - weight_OP[:, None]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(((found - weight_OP) ** 2).sum(axis=1), nearest)


def test_rounding_weighs_errors_against_bits() -> None:
    """Zeros cost 1 bit, all others 3."""
    tables = (np.full((16, 9, 16), 1.0), np.full((16, 9, 16), 2.0), np.full((16, 128), 1.0))
    paths = all_paths(5)
    bits = 5 + 2 * np.count_nonzero(paths, axis=1)
    weight_OP = np.random.default_rng(2).uniform(-2.5, 2.5, (40, 5))
    found = levels_of_codes(rounded(weight_OP, tables, 0.4))
    costs = ((paths - weight_OP[:, None]) ** 2).sum(axis=2) + 0.4 * bits
    found_bits = 5 + 2 * np.count_nonzero(found, axis=1)
    found_costs = ((found - weight_OP) ** 2).sum(axis=1) + 0.4 * found_bits
    np.testing.assert_allclose(found_costs, costs.min(axis=1))


def test_arrays_of_different_layers_are_refused() -> None:
    good = (np.zeros((2, 9)), *FREE, np.zeros((2, 9), np.uint8), np.zeros((2, 9), np.int16))
    _native.round_levels(*good, 9, 9, True, 0.1)
    for i in range(len(good)):
        wrong = [np.zeros(7) if j == i else array for j, array in enumerate(good)]
        with pytest.raises(ValueError, match="one layer"):
            _native.round_levels(*wrong, 9, 9, True, 0.1)
    for num_weights in (0, -1, 4):
        with pytest.raises(ValueError, match="one layer"):
            _native.round_levels(*good, num_weights, 9, True, 0.1)
    with pytest.raises(ValueError, match="one layer"):
        _native.round_levels(*good, 9, 0, True, 0.1)
    with pytest.raises(ValueError, match="one layer"):
        _native.round_levels(*good[:4], good[4] + 16, good[5], 9, 9, True, 0.1)


def test_levels_of_whole_layers() -> None:
    codes_OP = np.random.default_rng(0).integers(-9, 10, (7, 50))
    levels_OP = levels_of_codes(codes_OP)
    for codes, levels in zip(codes_OP.tolist(), levels_OP.tolist(), strict=True):
        one_by_one = list(codes)
        to_levels(one_by_one)
        assert one_by_one == levels
        to_codes(one_by_one)
        assert one_by_one == codes


def test_it_predicts_as_the_network_it_starts_from(
    network: StraightThroughNetwork, folded: LoadedModel, quantized: QuantizedNetwork
) -> None:
    model = CompressedModel(record=folded.record, layers=quantized.layers())
    x_NCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x_NCHW), from_compressed(model).module.eval()(x_NCHW))
    found = network.network()
    for name, layer in quantized.levels.items():
        np.testing.assert_array_equal(found.levels[name].codes_OP, layer.codes_OP)
        np.testing.assert_array_equal(found.levels[name].scales_O, layer.scales_O)
        np.testing.assert_allclose(found.levels[name].bias_O, layer.bias_O, rtol=1e-6)


def test_finished_levels_hardly_change(network: StraightThroughNetwork) -> None:
    before = network.network()
    network.round()
    changed = total = 0
    for name, layer in network.network().levels.items():
        changed += int((layer.codes_OP != before.levels[name].codes_OP).sum())
        total += layer.codes_OP.size
    assert changed < 0.05 * total


def test_gradients_reach_what_levels_are_rounded_from(network: StraightThroughNetwork) -> None:
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_steps_add_up_until_levels_change(
    network: StraightThroughNetwork, graph: Graph, quantized: QuantizedNetwork
) -> None:
    x_NCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = network(x_NCHW).detach()
    with torch.no_grad():
        for levels in network.levels.values():
            levels += 4.0
    torch.testing.assert_close(network(x_NCHW), before)
    for _ in range(ROUNDED_EVERY - 1):
        network.after_step()
    torch.testing.assert_close(network(x_NCHW), before)
    network.after_step()
    assert (network(x_NCHW) - before).abs().max() > 0.1
    for conv in graph.convs:
        layer, old = network.network().levels[conv.name], quantized.levels[conv.name]
        assert np.abs(layer.levels_OP - old.levels_OP - 4).mean() < 1


def test_units_of_scales_and_biases(
    network: StraightThroughNetwork, quantized: QuantizedNetwork
) -> None:
    with torch.no_grad():
        for group in (network.scales, network.biases):
            for parameter in group.values():
                parameter += 10.0
    found = network.network()
    for name, layer in quantized.levels.items():
        ratio_O = found.levels[name].scales_O / layer.scales_O
        np.testing.assert_allclose(ratio_O, np.exp(10 * SCALE_UNIT), rtol=0.02)
        wanted = 10 * max(np.abs(layer.bias_O).mean(), 1e-6) * BIAS_UNIT
        np.testing.assert_allclose(found.levels[name].bias_O - layer.bias_O, wanted, rtol=1e-3)


def test_ranks_can_send_all_of_it(network: StraightThroughNetwork) -> None:
    """gloo knows these types, and no integers of 16 bits."""
    known = {torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8}
    assert {value.dtype for value in network.state_dict().values()} <= known


def test_a_higher_price_makes_more_zeros(network: StraightThroughNetwork) -> None:
    densities = []
    for price in (0.1, 0.5, 2.0):
        network.price.fill_(price)
        network.round()
        densities.append(network.network().density())
    assert densities[0] > densities[1] > densities[2]


def test_a_checkpoint_of_the_module_is_enough(
    network: StraightThroughNetwork, folded: LoadedModel, graph: Graph, quantized: QuantizedNetwork
) -> None:
    """A resumed training rounds at the same steps, by the same bit costs."""
    generator = torch.Generator().manual_seed(0)
    changes = [
        [0.3 * torch.randn(p.shape, generator=generator) for p in network.levels.values()]
        for _ in range(COSTS_EVERY + 6)
    ]

    def step(module: StraightThroughNetwork, i: int) -> None:
        with torch.no_grad():
            for parameter, change in zip(module.levels.values(), changes[i], strict=True):
                parameter += change
        module.after_step()

    resumed = StraightThroughNetwork(folded.module, graph, quantized)
    for i in range(len(changes)):
        if i == 30:
            resumed.load_state_dict(network.state_dict())
        step(network, i)
        if i >= 30:
            step(resumed, i)
    for name, layer in network.network().levels.items():
        np.testing.assert_array_equal(resumed.network().levels[name].codes_OP, layer.codes_OP)
