"""Activations rounded to the bytes of an integer client, within a torch module.

What levels, scales and biases are fitted to should be what runs: rounding and clipping activations
costs answers too, and part of that can be made good. Sums of bypasses are left as they are.
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
    """Within, every convolution's output that ``scales`` names is rounded and clipped, behind its
    ReLU; gradients pass where it is not clipped."""
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
