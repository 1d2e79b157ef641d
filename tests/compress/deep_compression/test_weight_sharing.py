"""Weight sharing: k-means, codebooks, and their gradients."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.codec.numerics import mantissa_bits
from squeezenet.codec.types import CodebookWeights, CompressedLayer
from squeezenet.compress.deep_compression.weight_sharing import (
    SharedNetwork,
    kmeans_linear,
    round_floats,
    share_layer,
    share_network,
)
from squeezenet.model.fold import fold_batch_norm
from tests.compress.conftest import untrained_model


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=200), st.integers(1, 31))
@settings(deadline=None, max_examples=50)
def test_kmeans(values: list[float], clusters: int) -> None:
    array = np.array(values)
    centroids = kmeans_linear(array, clusters)
    assert 1 <= len(centroids) <= clusters and (np.diff(centroids) > 0).all()
    nearest = np.abs(array[:, None] - centroids).argmin(axis=1)
    error = ((array - centroids[nearest]) ** 2).sum()
    start = np.linspace(array.min(), array.max(), clusters)
    assert error <= ((array[:, None] - start) ** 2).min(axis=1).sum() + 1e-9


def test_kmeans_ends_where_centroids_are_means() -> None:
    values = np.random.default_rng(0).laplace(size=2000)
    centroids = kmeans_linear(values, 15)
    nearest = np.abs(values[:, None] - centroids).argmin(axis=1)
    means = [values[nearest == k].mean() for k in range(len(centroids))]
    np.testing.assert_allclose(centroids, means, rtol=1e-9)
    assert 10 < len(centroids) <= 15
    # Clusters without a value are dropped: three values need three.
    assert kmeans_linear(np.array([1.0, 2.0, 9.0, 9.0]), 30).tolist() == [1.0, 2.0, 9.0]
    assert kmeans_linear(np.array([0.0, 1.0, 10.0]), 2).tolist() == [0.5, 10.0]


def test_sharing_few_values_is_exact() -> None:
    weight = np.array([0, 1, -2, 3, 1, 0, 3, 3], np.float32).reshape(2, 4, 1, 1)
    shared = share_layer(weight, bits=5)
    np.testing.assert_allclose(shared.dequantize(), weight, atol=1e-6)
    assert (shared.codes_OIHW == 0).sum() == 2
    assert share_layer(np.zeros((2, 2, 1, 1), np.float32), 4).codebook.tolist() == [0.0]


def test_bits_bound_the_values_and_weights_take_the_nearest() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
    weight[weight < -1] = 0
    for bits in (2, 4):
        shared = share_layer(weight, bits)
        assert len(shared.codebook) == 2**bits and shared.codebook[0] == 0
        values = weight[weight != 0]
        nearest = np.abs(values[:, None] - shared.codebook[1:]).argmin(axis=1)
        np.testing.assert_array_equal(shared.codes_OIHW[weight != 0], nearest + 1)
        assert not shared.codes_OIHW[weight == 0].any()


def layers_of_network(bits: int = 3) -> tuple[torch.nn.Module, Graph, tuple[CompressedLayer, ...]]:
    model = fold_batch_norm(untrained_model())
    graph = build_graph(model.record.spec)
    return (
        model.module,
        graph,
        share_network(model.module.state_dict(), graph, {conv.name: bits for conv in graph.convs}),
    )


def test_a_network_is_shared_layer_by_layer() -> None:
    module, graph, layers = layers_of_network()
    state = module.state_dict()
    for conv, layer in zip(graph.convs, layers, strict=True):
        assert layer.name == conv.name
        wanted = share_layer(state[f"{conv.key}.weight"].numpy(), 3)
        np.testing.assert_array_equal(layer.weights.dequantize(), wanted.dequantize())
        np.testing.assert_array_equal(layer.bias_O, state[f"{conv.key}.bias"].numpy())


def test_floats_have_the_mantissa_of_half_precision() -> None:
    _, _, layers = layers_of_network()
    for exact, rounded in zip(layers, round_floats(layers), strict=True):
        assert isinstance(exact.weights, CodebookWeights)
        assert isinstance(rounded.weights, CodebookWeights)
        assert mantissa_bits(rounded.weights.codebook) == 10
        assert mantissa_bits(rounded.bias_O) <= 10
        np.testing.assert_allclose(rounded.weights.codebook, exact.weights.codebook, rtol=2**-11)
        np.testing.assert_allclose(rounded.bias_O, exact.bias_O, rtol=2**-11)
        np.testing.assert_array_equal(rounded.weights.codes_OIHW, exact.weights.codes_OIHW)
        assert rounded.name == exact.name


def state_of(shared: SharedNetwork, graph: Graph) -> dict[str, torch.Tensor]:
    return {
        f"{conv.key}.{part}": torch.from_numpy(value)
        for conv, layer in zip(graph.convs, shared.layers(), strict=True)
        for part, value in (("weight", layer.weights.dequantize()), ("bias", layer.bias_O.copy()))
    }


def test_a_centroids_gradient_is_the_sum_over_its_weights() -> None:
    module, graph, layers = layers_of_network()
    shared = SharedNetwork(module, graph, layers)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shared.eval()(x).square().sum().backward()
    state = {k: v.clone().requires_grad_() for k, v in state_of(shared, graph).items()}
    functional_call(module.eval(), state, (x,)).square().sum().backward()
    for conv, layer in zip(graph.convs, layers, strict=True):
        assert isinstance(layer.weights, CodebookWeights)
        codes = torch.from_numpy(layer.weights.codes_OIHW.astype(np.int64))
        gradient = state[f"{conv.key}.weight"].grad
        assert gradient is not None
        key = conv.key.replace(".", "/")
        offsets = shared.offsets[key].grad
        assert offsets is not None
        for k in range(1, len(layer.weights.codebook)):
            members = gradient[codes == k]
            expected = members.sum() / max(1, len(members)) ** 0.5
            torch.testing.assert_close(offsets[k], expected, rtol=1e-3, atol=1e-3)
        assert offsets[0] == 0
        bias = state[f"{conv.key}.bias"].grad
        torch.testing.assert_close(shared.biases[key].grad, bias, rtol=1e-3, atol=1e-3)


def test_trained_codebooks_are_those_of_the_layers() -> None:
    module, graph, layers = layers_of_network()
    shared = SharedNetwork(module, graph, layers)
    for before, after in zip(layers, shared.layers(), strict=True):
        np.testing.assert_array_equal(after.weights.dequantize(), before.weights.dequantize())
    with torch.no_grad():
        for parameter in shared.parameters():
            parameter += 1
    for before, after in zip(layers, shared.layers(), strict=True):
        assert isinstance(before.weights, CodebookWeights)
        assert isinstance(after.weights, CodebookWeights)
        counts = np.bincount(before.weights.codes_OIHW.ravel(), minlength=8)
        moved = after.weights.codebook - before.weights.codebook
        assert moved[0] == 0
        np.testing.assert_allclose(moved[1:], 1 / np.sqrt(counts[1:]), rtol=1e-3)
        np.testing.assert_allclose(after.bias_O, before.bias_O + 1, rtol=1e-6)
        np.testing.assert_array_equal(after.weights.codes_OIHW, before.weights.codes_OIHW)
