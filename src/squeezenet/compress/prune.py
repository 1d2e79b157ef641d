"""Magnitude pruning: keep the largest weights of each layer, hold the others at zero.

The first step of Deep Compression (arXiv 1510.00149, section 2; arXiv 1506.02626). The density of a
layer, the share of weights that it keeps, is given, found by ``sensitivity``, or spread over the
layers by LAMP (arXiv 2010.07611): score = w^2 / (sum of w'^2 over |w'| >= |w| in the layer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.errors import UsageError

Masks = dict[str, torch.Tensor]
"""Layer name -> bool OIHW, True where a weight is kept."""


def layer_densities(
    module: nn.Module, graph: Graph, density: float | None, by_layer: Mapping[str, float]
) -> dict[str, float]:
    """Return the density of every layer, by its name.

    ``by_layer``: densities of some layers. The others together keep ``density``, spread by LAMP;
    all their weights if it is None.

    Raises:
        UsageError: a density outside (0, 1], or a layer that the network does not have.
    """
    names = [conv.name for conv in graph.convs]
    for name, value in (*by_layer.items(), ("all layers", 1.0 if density is None else density)):
        if not 0 < value <= 1:
            raise UsageError(f"density of {name} is {value}, expected above 0 and at most 1")
    require_layers(graph, by_layer, "density")
    others = [conv for conv in graph.convs if conv.name not in by_layer]
    spread = dict.fromkeys((conv.name for conv in others), 1.0)
    if density is not None and others:
        spread = lamp_densities({c.name: _weight(module, c.key) for c in others}, density)
    return {name: by_layer.get(name, spread.get(name, 1.0)) for name in names}


def require_layers(graph: Graph, named: Iterable[str], what: str) -> None:
    """Refuse names of layers that the network does not have; ``what`` is set for them.

    Raises:
        UsageError: names the first.
    """
    names = [conv.name for conv in graph.convs]
    for name in named:
        if name not in names:
            raise UsageError(f"{what} for {name!r}: no such layer; expected {', '.join(names)}")


def lamp_densities(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Spread ``density`` over layers by LAMP: keep the weights of the highest scores.

    Scores are compared across layers. A layer's largest weight always scores 1, so that no layer
    loses all its weights.
    """
    scores = {}
    for name, weight in weights.items():
        squares = torch.sort(weight.detach().cpu().double().square().reshape(-1)).values
        no_smaller = torch.flip(torch.cumsum(torch.flip(squares, [0]), 0), [0])
        scores[name] = squares / no_smaller.clamp(min=torch.finfo(torch.float64).tiny)
    all_scores = torch.cat(list(scores.values()))
    num_kept = max(1, round(density * len(all_scores)))
    threshold = torch.sort(all_scores, descending=True).values[num_kept - 1]
    return {
        name: max(1, int((score >= threshold).sum())) / len(score) for name, score in scores.items()
    }


def magnitude_mask(weight_OIHW: torch.Tensor, density: float) -> torch.Tensor:
    """Return a bool mask that keeps round(density * count) weights of largest magnitude.

    At least one is kept. Of equal magnitudes the earlier is kept; zeros never are.
    """
    flat = weight_OIHW.detach().cpu().abs().reshape(-1)
    num_kept = max(1, round(density * flat.numel()))
    order = torch.sort(flat, descending=True, stable=True).indices
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[order[:num_kept]] = True
    return (mask & (flat > 0)).reshape(weight_OIHW.shape)


def magnitude_masks(module: nn.Module, graph: Graph, densities: Mapping[str, float]) -> Masks:
    """Return ``magnitude_mask`` of every layer."""
    return {
        conv.name: magnitude_mask(_weight(module, conv.key), densities[conv.name])
        for conv in graph.convs
    }


def mask_holder(graph: Graph, masks: Masks) -> Callable[[nn.Module], None]:
    """Return a function that zeroes the pruned weights; retraining calls it after each step."""
    masks_on_device: dict[str, torch.Tensor] = {}

    def hold(module: nn.Module) -> None:
        with torch.no_grad():
            for conv in graph.convs:
                weight = _weight(module, conv.key)
                known = masks_on_device.get(conv.name)
                if known is None or known.device != weight.device:
                    masks_on_device[conv.name] = masks[conv.name].to(weight)
                weight.mul_(masks_on_device[conv.name])

    return hold


def _weight(module: nn.Module, key: str) -> torch.Tensor:
    layer = module.get_submodule(key)
    assert isinstance(layer, nn.Conv2d)
    return layer.weight
