"""Numbers at the edge: weights and outputs that no integer file, and no curvature, can hold.

Denormal weights become 0. A network whose outputs explode is refused by the name of the layer,
before any work.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.errors import WeightsError
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel, copy_model

MAX_OUTPUT = 1e9
"""Largest output of a layer. The curvature squares outputs and sums the squares over positions and
images. Trained networks stay below 1e4."""
MAX_LOGIT = 32_767.0
"""Largest logit of an integer client: int32 in units of 1/65536 (spec/INTEGER.md)."""

MAX_BIAS_UNITS = 1 << 29
"""Largest bias in units of an accumulator: half of what INTEGER.md allows it and all products."""


def without_denormals(model: LoadedModel) -> LoadedModel:
    """Return the model with denormal weights set to 0; the same object if it has none.

    They are below 1.2e-38, and no scale of a file is as small.
    """
    smallest = torch.finfo(torch.float32).tiny
    tensors = [t for t in model.module.state_dict().values() if t.dtype == torch.float32]
    if not any(bool(((t != 0) & (t.abs() < smallest)).any()) for t in tensors):
        return model
    clean = copy_model(model)
    with torch.no_grad():
        for tensor in clean.module.state_dict().values():
            if tensor.dtype == torch.float32:
                tensor[tensor.abs() < smallest] = 0
    return dataclasses.replace(clean, source=model.source)


def require_bounded_outputs(
    model: LoadedModel, batches: EvalBatches, *, max_logit: float = math.inf
) -> None:
    """Run the network on the first batch; refuse it if a layer's outputs are endless or too large.

    Raises:
        WeightsError: names the model and the first such layer.
    """
    where = str(model.source.path) if model.source else model.record.spec.name
    convs = build_graph(model.record.spec).convs
    largest: dict[str, float] = {}

    def observe(name: str, out: torch.Tensor) -> None:
        largest[name] = float(out.detach().abs().max())

    handles = []
    for conv in convs:
        layer: nn.Module = model.module.get_submodule(conv.norm_key or conv.key)
        handles.append(
            layer.register_forward_hook(lambda _, __, out, name=conv.name: observe(name, out))
        )
    try:
        batch = next(iter(batches))
        logits_NK = from_pixels(model.logits, model.record.preprocessing)(batch.pixels_NHWC)
    finally:
        for handle in handles:
            handle.remove()
    for conv in convs:
        if not largest[conv.name] <= MAX_OUTPUT:  # NaN too
            raise WeightsError(
                f"{where}: {conv.name}: outputs reach {largest[conv.name]:.3g}, expected at most "
                f"{MAX_OUTPUT:g}; its weights or those before it explode, use another copy or "
                "train it again"
            )
    highest = float(abs(logits_NK).max())
    if not highest <= max_logit:
        raise WeightsError(
            f"{where}: {convs[-1].name}: logits reach {highest:.3g}, expected at most "
            f"{max_logit:g}, which integer clients hold; scale its weights and biases down"
        )
