"""Sensitivity scan: how sparse may each layer be, before retraining?

One layer at a time is pruned and the accuracy measured, without retraining, as in section 3 of
arXiv 1506.02626. A layer gets the smallest density at which it alone costs at most the budget.
Losses add up, and beyond some sum retraining does not recover. So all layers are then pruned
together, and all keep more until the sum is at most ``MAX_TOTAL_DROP_BUDGETS`` budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.compress.prune import magnitude_mask, magnitude_masks, mask_holder
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress

DENSITIES = (0.1, 0.15, 0.2, 0.25, 0.33, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
"""Candidate densities, over the range of the paper's tables."""
MAX_TOTAL_DROP_BUDGETS = 20
"""Budgets that all layers together may cost before retraining. Without this limit, budgets of 1
point cost squeezenet_tiny 9 points after retraining (docs/experiments)."""
_BATCH_SIZE = 64


def scan_densities(
    model: LoadedModel,
    graph: Graph,
    x_NCHW: torch.Tensor,
    targets: torch.Tensor,
    *,
    budget: float,
    progress: Progress,
    known: Mapping[str, float] | None = None,
    save: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Return one of ``DENSITIES`` for each layer, by its name. The model is left as it was.

    ``x_NCHW``: network input. ``targets``: the right classes, (N,). ``budget``: in points. A binary
    search per layer assumes that accuracy falls with the density. ``save`` is called with the
    densities after each layer; ``known`` gives them to a scan that resumes.
    """
    known = known or {}
    chosen: dict[str, int] = {}
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    baseline = _accuracy(model.module, x_NCHW, targets)

    def drop() -> float:
        return baseline - _accuracy(model.module, x_NCHW, targets)

    with progress.task("sensitivity scan", total=len(graph.convs), unit="layer") as task:
        for conv in graph.convs:
            if known.get(conv.name) in DENSITIES:
                place = DENSITIES.index(known[conv.name])
            else:
                layer = model.module.get_submodule(conv.key)
                assert isinstance(layer, nn.Conv2d)
                place = _scan_layer(layer, drop, budget)
            chosen[conv.name] = place
            if save is not None:
                save({name: DENSITIES[place] for name, place in chosen.items()})
            task.advance(1, f"{conv.name} {DENSITIES[place]:.0%}")
    return _within_total(model, graph, chosen, drop, MAX_TOTAL_DROP_BUDGETS * budget)


def _scan_layer(layer: nn.Conv2d, drop: Callable[[], float], budget: float) -> int:
    """The place in ``DENSITIES`` of the smallest density that costs at most ``budget``."""
    original = layer.weight.detach().clone()
    low, high = 0, len(DENSITIES) - 1  # the density at ``high`` is within the budget
    while low < high:
        middle = (low + high) // 2
        mask = magnitude_mask(original, DENSITIES[middle])
        with torch.no_grad():
            layer.weight.copy_(original * mask)
        if drop() <= budget:
            high = middle
        else:
            low = middle + 1
    with torch.no_grad():
        layer.weight.copy_(original)
    return high


def _within_total(
    model: LoadedModel,
    graph: Graph,
    chosen: dict[str, int],
    drop: Callable[[], float],
    max_drop: float,
) -> dict[str, float]:
    """Raise all densities by one place at a time until all layers together cost ``max_drop``."""
    last = len(DENSITIES) - 1
    original_state = {k: v.clone() for k, v in model.module.state_dict().items()}
    while True:
        densities = {name: DENSITIES[place] for name, place in chosen.items()}
        mask_holder(graph, magnitude_masks(model.module, graph, densities))(model.module)
        total = drop()
        model.module.load_state_dict(original_state)
        if total <= max_drop or min(chosen.values()) == last:
            return densities
        chosen = {name: min(place + 1, last) for name, place in chosen.items()}


def _accuracy(module: nn.Module, x_NCHW: torch.Tensor, targets: torch.Tensor) -> float:
    """Top-1 in percent."""
    module.eval()
    with torch.inference_mode():
        num_correct, device = 0, next(module.parameters()).device
        for start in range(0, len(targets), _BATCH_SIZE):
            piece = slice(start, start + _BATCH_SIZE)
            predicted = module(x_NCHW[piece].to(device)).argmax(dim=1).cpu()
            num_correct += int((predicted == targets[piece]).sum())
    return 100 * num_correct / len(targets)
