"""Magnitude pruning: keep the largest weights of each layer, hold the rest at zero.

Step one of Deep Compression (arXiv 1510.00149, section 2; arXiv 1506.02626). How many each layer
keeps is asked for, found by ``sensitivity``, or spread over the layers by LAMP (arXiv 2010.07611).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.errors import UsageError

Masks = dict[str, torch.Tensor]
"""Layer name -> bool OIHW, True where a weight is kept."""


def layer_densities(
    module: nn.Module, graph: Graph, density: float | None, by_layer: Mapping[str, float]
) -> dict[str, float]:
    """Return the share of weights to keep in every layer: ``by_layer`` where it names the layer;
    the others together keep ``density``, spread by LAMP, or all if it is None.

    Raises:
        UsageError: a share out of (0, 1], or a layer that the network does not have.
    """
    names = [conv.name for conv in graph.convs]
    for name, value in (*by_layer.items(), ("all layers", 1.0 if density is None else density)):
        if not 0 < value <= 1:
            raise UsageError(f"density of {name} is {value}, expected above 0 and at most 1")
    for name in by_layer:
        if name not in names:
            raise UsageError(f"density for {name!r}: no such layer; expected {', '.join(names)}")
    rest = [conv for conv in graph.convs if conv.name not in by_layer]
    spread = dict.fromkeys((conv.name for conv in rest), 1.0)
    if density is not None and rest:
        spread = lamp_densities({c.name: _weight(module, c.key) for c in rest}, density)
    return {name: by_layer.get(name, spread.get(name, 1.0)) for name in names}


def lamp_densities(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Spread ``density`` over layers by LAMP: keep the weights of the highest scores anywhere.

    A weight's score is its square over the sum of the squares in its layer that are no smaller, so
    a layer's largest weight always scores 1 and no layer vanishes.
    """
    scores = {}
    for name, weight in weights.items():
        squares = torch.sort(weight.detach().cpu().double().square().reshape(-1)).values
        no_smaller = torch.flip(torch.cumsum(torch.flip(squares, [0]), 0), [0])
        scores[name] = squares / no_smaller.clamp(min=torch.finfo(torch.float64).tiny)
    everywhere = torch.cat(list(scores.values()))
    num_kept = max(1, round(density * len(everywhere)))
    threshold = torch.sort(everywhere, descending=True).values[num_kept - 1]
    return {
        name: max(1, int((score >= threshold).sum())) / len(score) for name, score in scores.items()
    }


def magnitude_mask(weight_OIHW: torch.Tensor, density: float) -> torch.Tensor:
    """Keep round(density * count) weights, at least one, of largest magnitude.

    Of equal magnitudes the earlier stays; weights that are zero are never kept.
    """
    flat = weight_OIHW.detach().cpu().abs().reshape(-1)
    num_kept = max(1, round(density * flat.numel()))
    order = torch.sort(flat, descending=True, stable=True).indices
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[order[:num_kept]] = True
    return (mask & (flat > 0)).reshape(weight_OIHW.shape)


def magnitude_masks(module: nn.Module, graph: Graph, densities: Mapping[str, float]) -> Masks:
    """``magnitude_mask`` of every layer."""
    return {
        conv.name: magnitude_mask(_weight(module, conv.key), densities[conv.name])
        for conv in graph.convs
    }


def mask_holder(graph: Graph, masks: Masks) -> Callable[[nn.Module], None]:
    """Return a function that zeroes what the masks have removed; retraining calls it each step."""
    floats: dict[str, torch.Tensor] = {}

    def hold(module: nn.Module) -> None:
        with torch.no_grad():
            for conv in graph.convs:
                weight = _weight(module, conv.key)
                known = floats.get(conv.name)
                if known is None or known.device != weight.device:
                    floats[conv.name] = masks[conv.name].to(weight)
                weight.mul_(floats[conv.name])

    return hold


def _weight(module: nn.Module, key: str) -> torch.Tensor:
    layer = module.get_submodule(key)
    assert isinstance(layer, nn.Conv2d)
    return layer.weight
