"""Initial weights: He's, or those of the paper's Caffe files."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.arch.spec import NetworkSpec

InitKind = Literal["he", "xavier"]
_LAST_STD = 0.01
"""Standard deviation of the last convolution's weights, as in the authors' train_val.prototxt."""


def initialise(module: nn.Module, spec: NetworkSpec, kind: InitKind, seed: int) -> None:
    """Draw all weights from a seed; biases become 0, batch normalisation the identity.

    "he": normal, variance 2 / fan-in (arXiv 1502.01852). "xavier": Caffe's filler of that name,
    uniform, variance 1 / fan-in. The last convolution is normal with standard deviation 0.01 in
    both.
    """
    generator = torch.Generator().manual_seed(seed)
    convs = build_graph(spec).convs
    with torch.no_grad():
        for conv in convs:
            layer = module.get_submodule(conv.key)
            assert isinstance(layer, nn.Conv2d)
            fan_in = layer.weight[0].numel()
            if conv is convs[-1]:
                layer.weight.normal_(0, _LAST_STD, generator=generator)
            elif kind == "he":
                layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            else:
                bound = math.sqrt(3 / fan_in)
                layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()


def initialise_head(module: nn.Module, spec: NetworkSpec, seed: int) -> None:
    """Draw the last convolution's weights, standard deviation 0.01; change nothing else."""
    layer = module.get_submodule(build_graph(spec).convs[-1].key)
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    with torch.no_grad():
        layer.weight.normal_(0, _LAST_STD, generator=torch.Generator().manual_seed(seed))
        layer.bias.zero_()
