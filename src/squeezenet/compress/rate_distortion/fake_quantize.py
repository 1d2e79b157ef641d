"""Fake quantization: activations rounded to an integer client's bytes, within a torch module.

x -> (clip(round(x / scale) + zero_point, 0, 255) - zero_point) * scale. Levels, scales and biases
should be fitted to what runs: 8-bit activations cost divergence too, and part of that can be
compensated. Sums of bypasses are left in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import ActivationScale


@contextmanager
def rounded_activations(
    module: nn.Module, graph: Graph, scales: Mapping[str, ActivationScale]
) -> Iterator[None]:
    """Within the context, round every convolution's output that ``scales`` names, after its ReLU.

    Gradients pass straight through where a value is not clipped.
    """
    handles = [
        module.get_submodule(conv.key).register_forward_hook(_hook(scales[conv.target], conv.relu))
        for conv in graph.convs
        if conv.target in scales
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(scale: ActivationScale, relu: bool) -> Callable[..., torch.Tensor]:
    def rounded(layer: nn.Module, inputs: object, out: torch.Tensor) -> torch.Tensor:
        exact = out.relu() if relu else out
        return torch.fake_quantize_per_tensor_affine(
            exact.float(), scale.scale, scale.zero_point, 0, 255
        )

    return rounded
