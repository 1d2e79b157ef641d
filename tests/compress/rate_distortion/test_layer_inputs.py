"""Inputs of layers before and after rounding, and the weights that make up for the difference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.presets import preset
from squeezenet.arch.spec import AlexNetSpec, NetworkSpec, SqueezeNetSpec
from squeezenet.compress.rate_distortion import layer_inputs
from squeezenet.compress.rate_distortion.layer_inputs import (
    LayerInputs,
    PairedActivations,
    num_paired_images,
)
from squeezenet.model.init import initialise
from squeezenet.model.network import build_module


def floors(spec: NetworkSpec) -> NetworkSpec:
    """The spec with pools whose windows do not overhang."""
    assert isinstance(spec, SqueezeNetSpec)
    pools = tuple(dataclasses.replace(pool, ceil_mode=False) for pool in spec.pools)
    return dataclasses.replace(spec, pools=pools)


def small_alexnet() -> NetworkSpec:
    """AlexNet, with its groups and its local response normalisation, for 67 pixels."""
    spec = preset("alexnet", input_size=(67, 67), num_classes=12)
    assert isinstance(spec, AlexNetSpec)
    return dataclasses.replace(spec, hidden=(16, 16))


SPECS = {
    "v1.1": preset("squeezenet1_1", input_size=(64, 64), num_classes=12),
    "floor": floors(preset("squeezenet1_1", input_size=(66, 66), num_classes=12)),
    "identity": preset("squeezenet1_0_simple_bypass", input_size=(64, 64), num_classes=12),
    "conv": preset("squeezenet1_0_complex_bypass", input_size=(64, 64), num_classes=12),
    "alexnet": small_alexnet(),
}


@pytest.mark.parametrize("name", SPECS)
def test_inputs_are_those_of_the_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(SPECS[name], batch_norm=False)
    graph = build_graph(spec)
    original, rounded = (build_module(spec).eval() for _ in range(2))
    initialise(original, spec, "he", 0)
    state = original.state_dict()
    generator = torch.Generator().manual_seed(0)
    noisy = {
        key: value + 0.2 * value.std() * torch.randn(value.shape, generator=generator)
        if value.dim() == 4 else value + 0.01
        for key, value in state.items()
    }  # fmt: skip
    rounded.load_state_dict(noisy)
    height, width = spec.input_size
    x_NCHW = torch.randn((6, 3, height, width), generator=generator)
    found = [_inputs_of(module, graph, x_NCHW) for module in (original, rounded)]
    monkeypatch.setattr(layer_inputs, "MAX_POSITIONS", 1 << 30)
    paired = PairedActivations(graph, [x_NCHW[:4], x_NCHW[4:]])
    for i, conv in enumerate(graph.convs):
        inputs = paired.inputs(conv)
        assert (inputs is None) == (i == 0)
        if inputs is not None:
            means = [
                functional.unfold(each[conv.name], conv.kernel, 1, conv.padding, conv.stride)
                .mean(dim=(0, 2)).reshape(conv.groups, -1)
                for each in found
            ]  # fmt: skip
            for actual, wanted in zip(
                (inputs.original_mean_GP, inputs.mean_GP), means, strict=True
            ):
                np.testing.assert_allclose(actual, wanted, atol=1e-3 * float(wanted.abs().max()))
        pair = [
            (each[f"{conv.key}.weight"].numpy(), each[f"{conv.key}.bias"].numpy())
            for each in (state, noisy)
        ]
        if conv is not graph.convs[-1]:
            paired.advance(conv, pair[0], pair[1])


def _inputs_of(
    module: torch.nn.Module, graph: Graph, x_NCHW: torch.Tensor
) -> dict[str, torch.Tensor]:
    found = {}
    for conv in graph.convs:

        def keep(
            layer: object, inputs: tuple[torch.Tensor, ...], out: object, name: str = conv.name
        ) -> None:
            found[name] = inputs[0]

        module.get_submodule(conv.key).register_forward_hook(keep)
    with torch.no_grad():
        module(x_NCHW)
    return found


@pytest.mark.parametrize("groups", [1, 2])
def test_compensated_weights_come_nearest(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against least squares on the samples themselves."""
    monkeypatch.setattr(layer_inputs, "DAMPING", 0.0)
    rng = np.random.default_rng(0)
    x_GPN = rng.normal(1, 1, size=(groups, 5, 400))
    mixed_GPP = np.eye(5) + 0.2 * rng.normal(size=(groups, 5, 5))
    rounded_GPN = mixed_GPP @ x_GPN + 0.3 * rng.normal(size=x_GPN.shape)
    means = x_GPN.mean(axis=2), rounded_GPN.mean(axis=2)
    centred, rounded = x_GPN - means[0][..., None], rounded_GPN - means[1][..., None]
    inputs = LayerInputs(
        covariance_GPP=rounded @ rounded.transpose(0, 2, 1) / 400,
        cross_GPP=centred @ rounded.transpose(0, 2, 1) / 400,
        mean_GP=means[1],
        original_mean_GP=means[0],
    )
    weight_OP, bias_O = rng.normal(size=(3 * groups, 5)), rng.normal(size=3 * groups)
    found_OP = inputs.compensated(weight_OP)
    corrected_O = inputs.corrected_bias(weight_OP, bias_O, found_OP)
    for g in range(groups):
        part = slice(3 * g, 3 * g + 3)
        wanted_QN = weight_OP[part] @ x_GPN[g] + bias_O[part, None]
        samples = np.concatenate([rounded_GPN[g], np.ones((1, 400))])
        best_QP = np.linalg.lstsq(samples.T, wanted_QN.T, rcond=None)[0].T
        np.testing.assert_allclose(found_OP[part], best_QP[:, :5], atol=1e-9)
        np.testing.assert_allclose(corrected_O[part], best_QP[:, 5], atol=1e-9)


def test_inputs_that_are_always_zero_change_nothing() -> None:
    zeros_GPP, zeros_GP = np.zeros((1, 4, 4)), np.zeros((1, 4))
    inputs = LayerInputs(
        covariance_GPP=zeros_GPP, cross_GPP=zeros_GPP, mean_GP=zeros_GP, original_mean_GP=zeros_GP
    )
    weight_OP = np.arange(8.0).reshape(2, 4)
    np.testing.assert_allclose(inputs.compensated(weight_OP), weight_OP)


def test_images_by_the_memory_they_take() -> None:
    assert num_paired_images(build_graph(preset("squeezenet1_0"))) == layer_inputs.MAX_IMAGES
    large = build_graph(preset("squeezenet1_0", input_size=(1024, 1024)))
    assert 16 < num_paired_images(large) < 64
