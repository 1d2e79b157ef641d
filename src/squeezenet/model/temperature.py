"""Fold a temperature into the last convolution: all logits are divided by it, nothing else changes.

What follows the last convolution is a ReLU at most, and an average. Both commute with a positive
factor.
"""

from __future__ import annotations

import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.model.loaded import LoadedModel, copy_model


def with_temperature(model: LoadedModel, temperature: float) -> LoadedModel:
    """Return the model with its logits divided by ``temperature``; the same object if that is 1.

    Weights and bias of the last convolution are divided, or those of its batch normalisation.
    """
    assert temperature > 0
    if temperature == 1:
        return model
    scaled = copy_model(model)
    head = build_graph(model.record.spec).convs[-1]
    layer = scaled.module.get_submodule(head.norm_key or head.key)
    assert isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)) and layer.bias is not None
    with torch.no_grad():
        layer.weight.div_(temperature)
        layer.bias.div_(temperature)
    return scaled
