"""A temperature in the last convolution, whose weights and biases are divided by it.

What follows the last convolution is a ReLU at most, and an average. Both commute with a positive
factor, so all logits are divided by it.
"""

from __future__ import annotations

import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.model.loaded import LoadedModel, copy_model


def with_tempered_head(model: LoadedModel, temperature: float) -> LoadedModel:
    """Return the model with its last convolution divided by ``temperature``, its logits as before.

    The module multiplies the logits again (``multiply_logits``), so that curvature, divergence and
    losses are those of the model as it was. What is stored of it has the temperature. The model
    must be without batch normalisation; the same object is returned if the temperature is 1.
    """
    assert temperature > 0 and not model.record.spec.batch_norm
    if temperature == 1:
        return model
    tempered = copy_model(model)
    layer = tempered.module.get_submodule(build_graph(model.record.spec).convs[-1].key)
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    with torch.no_grad():
        layer.weight.div_(temperature)
        layer.bias.div_(temperature)
    multiply_logits(tempered.module, temperature)
    return tempered


def multiply_logits(module: nn.Module, factor: float) -> None:
    """Let a network return its logits times ``factor`` from now on; its copies do so too."""
    if factor != 1:
        module.register_forward_hook(lambda _, __, logits_NK: logits_NK * factor)
