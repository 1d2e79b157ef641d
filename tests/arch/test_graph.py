"""The graph beside torch: shapes, parameters, MACs and activations, counted independently."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import lifetimes, peak_activation_bytes
from squeezenet.arch.presets import PRESETS, preset
from squeezenet.model.network import build_module


@pytest.mark.parametrize("name", PRESETS)
def test_counts_agree_with_torch(name: str) -> None:
    spec = preset(name)
    graph = build_graph(spec)
    counts = count(graph)
    module = build_module(spec).eval()
    assert counts.parameters == sum(p.numel() for p in module.parameters())
    outputs: dict[str, int] = {}
    for conv in graph.convs:

        def keep(_: nn.Module, __: object, out: torch.Tensor, name: str = conv.name) -> None:
            outputs[name] = out.numel()

        module.get_submodule(conv.key).register_forward_hook(keep)
    x = torch.zeros(1, spec.input_channels, *spec.input_size)
    # torch counts two operations per multiply-accumulate; here only convolutions have any.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = module(x)
    assert counter.get_total_flops() == 2 * counts.macs
    assert logits.shape == (1, spec.num_classes)
    layers = {layer.name: layer for layer in counts.layers}
    for layer_name, elements in outputs.items():
        assert layers[layer_name].activation_bytes == 4 * elements


@pytest.mark.parametrize("size", [(32, 32), (31, 40), (8, 8), (225, 224), (63, 65)])
def test_odd_sizes_agree_with_torch(size: tuple[int, int]) -> None:
    spec = preset("squeezenet1_1", input_size=size, num_classes=7)
    graph = build_graph(spec)
    module = build_module(spec).eval()
    shapes: list[tuple[int, ...]] = []
    module.features.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    with torch.no_grad():
        module(torch.zeros(1, 3, *size))
    last = graph.tensors["fire9"]
    assert shapes == [(1, last.channels, last.height, last.width)]


def test_keys_are_torchvisions() -> None:
    graph = build_graph(preset("squeezenet1_0"))
    keys = {conv.key.split(".")[1] for conv in graph.convs if conv.key.startswith("features")}
    assert keys == {"0", "3", "4", "5", "7", "8", "9", "10", "12"}
    graph = build_graph(preset("squeezenet1_1"))
    keys = {conv.key.split(".")[1] for conv in graph.convs if conv.key.startswith("features")}
    assert keys == {"0", "3", "4", "6", "7", "9", "10", "11", "12"}
    assert len(build_module(preset("squeezenet1_0")).state_dict()) == 52


def test_batch_norm_keeps_torchvisions_indices() -> None:
    plain = build_module(preset("squeezenet1_1")).state_dict()
    normed = build_module(preset("squeezenet1_1", batch_norm=True)).state_dict()
    convolutions = {key for key in plain if key.endswith("weight")}
    assert convolutions <= set(normed)
    assert "features.3.squeeze_bn.running_mean" in normed


def test_concatenation_is_slices_of_one_tensor() -> None:
    graph = build_graph(preset("squeezenet1_0"))
    expand1, expand3 = (c for c in graph.convs if c.name.startswith("fire2/expand"))
    assert expand1.target == expand3.target == "fire2"
    assert (expand1.target_start, expand3.target_start) == (0, 64)


def test_peak_memory_by_hand() -> None:
    graph = build_graph(preset("squeezenet_tiny"))
    # At fire2's addition three tensors of 32x8x8 are alive: the module's input (the bypass), the
    # expand layers' output and the sum.
    assert peak_activation_bytes(graph) == 3 * 32 * 64
    assert peak_activation_bytes(graph, element_bytes=4) == 4 * 3 * 32 * 64
    first, last = lifetimes(graph)["conv1"]
    assert first == 0 and graph.operations[last].name == "fire2/add"
