"""Fold batch normalisation into the convolution before it.

In inference, y = gamma (w*x - mean) / sqrt(var + eps) + beta is one convolution: its weight is
w gamma / sqrt(var + eps), its bias is beta - mean gamma / sqrt(var + eps). Computed in float64.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.model.loaded import LoadedModel, from_state


def fold_batch_norm(model: LoadedModel) -> LoadedModel:
    """Return an equivalent model without batch normalisation; the same object if it has none."""
    spec = model.record.spec
    if not spec.batch_norm:
        return model
    state = {}
    for conv in build_graph(spec).convs:
        layer = model.module.get_submodule(conv.key)
        assert isinstance(layer, nn.Conv2d)
        weight = layer.weight.detach().double()
        bias = (
            layer.bias.detach().double()
            if layer.bias is not None
            else weight.new_zeros(conv.out_channels)
        )
        if conv.norm_key is not None:
            norm = model.module.get_submodule(conv.norm_key)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weight = weight * scale[:, None, None, None]
            bias = norm.bias.detach().double() + (bias - norm.running_mean.double()) * scale
        state[f"{conv.key}.weight"] = weight.float()
        state[f"{conv.key}.bias"] = bias.float()
    record = dataclasses.replace(model.record, spec=dataclasses.replace(spec, batch_norm=False))
    return from_state(record, state, "folded batch normalisation")
