"""Fake quantization rounds activations as integer clients do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import ActivationScale, CompressedModel
from squeezenet.compress.calibrate import calibrated
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.images.preprocess import normalise
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.reference.integer_interpreter import accumulate, quantise_input, requantise
from squeezenet.reference.integer_parameters import integer_parameters
from tests.compress.conftest import digit_batches


def test_the_first_layers_bytes_are_an_integer_clients(
    folded: LoadedModel, graph: Graph, quantized: QuantizedNetwork
) -> None:
    """Nearly all bytes after the first convolution are those of the integer interpreter. Further
    on, what one byte differs by is another noise of the same size."""
    batches = digit_batches(folded)
    model = CompressedModel(record=folded.record, layers=quantized.layers())
    file = calibrated(model, digit_batches(folded, count=64))
    assert file.activations is not None
    module, first = from_compressed(file).module.eval(), graph.convs[0]
    scale = file.activations[first.target]
    parameters = integer_parameters(file)
    pixels_HWC = next(iter(batches)).pixels_NHWC[0]
    x_CHW = quantise_input(pixels_HWC, parameters.input)
    conv = parameters.convs[first.name]
    exact_OP = accumulate(x_CHW, parameters.padding[first.source], conv, first)
    wanted = requantise(exact_OP, conv).ravel()

    x_NCHW = torch.from_numpy(normalise(pixels_HWC[None], folded.record.preprocessing))
    before = module(x_NCHW)
    found: list[torch.Tensor] = []
    with rounded_activations(module, graph, file.activations):
        handle = module.get_submodule(first.key).register_forward_hook(
            lambda layer, inputs, out: found.append(out.detach())
        )
        assert not torch.equal(module(x_NCHW), before)
        handle.remove()
    assert torch.equal(module(x_NCHW), before)
    levels = found[0].numpy().ravel() / scale.scale + scale.zero_point
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    difference = np.abs(np.rint(levels) - wanted)
    assert difference.max() <= 1
    # At the border, padding is a byte that need not be what stands for 0 (spec/INTEGER.md).
    tensor = graph.tensors[first.target]
    inner_CHW = difference.reshape(-1, tensor.height, tensor.width)[:, 1:-1, 1:-1]
    assert inner_CHW.mean() < 0.02


def test_values_are_clipped_and_gradients_pass_within(folded: LoadedModel, graph: Graph) -> None:
    model = copy_model(folded)
    first = graph.convs[0]
    layer = model.module.get_submodule(first.key)
    scale = ActivationScale(scale=2**-8, zero_point=0)
    x_NCHW = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 4
    exact = layer(x_NCHW).relu()
    with rounded_activations(model.module, graph, {first.target: scale}):
        found = layer(x_NCHW)
        found.sum().backward()
    exact, found = exact.detach(), found.detach()
    assert float(found.min()) == 0 and float(found.max()) == 255 / 256 < float(exact.max())
    within = exact < 255.5 / 256
    assert float((found - exact)[within].abs().max()) <= 2**-9 + 1e-6
    passed = (exact > 0) & within
    torch.testing.assert_close(layer.bias.grad, passed.float().sum(dim=(0, 2, 3)))


def test_a_relu_comes_before_the_rounding(folded: LoadedModel, graph: Graph) -> None:
    """Bytes below the zero point stand for negative values, which a ReLU never leaves."""
    model = copy_model(folded)
    conv, x_NCHW = graph.convs[0], torch.randn(2, 1, 8, 8)
    scales = {conv.target: ActivationScale(scale=2**-4, zero_point=100)}
    for relu, lowest in ((True, 0.0), (False, -100 / 16)):
        other = dataclasses.replace(graph, operations=(dataclasses.replace(conv, relu=relu),))
        with rounded_activations(model.module, other, scales), torch.no_grad():
            layer = model.module.get_submodule(conv.key)
            found = layer(100 * x_NCHW)
        assert float(found.min()) == lowest


def test_hooks_are_removed_after_an_error(folded: LoadedModel, graph: Graph) -> None:
    model = copy_model(folded)
    scales = {graph.convs[0].target: ActivationScale(scale=1.0, zero_point=3)}

    def fail() -> None:
        with rounded_activations(model.module, graph, scales):
            assert sum(len(m._forward_hooks) for m in model.module.modules()) == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any(m._forward_hooks for m in model.module.modules())
