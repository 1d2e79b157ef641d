"""How sparse may each layer be? Prune one layer at a time and watch the accuracy.

Without retraining, as in section 3 of arXiv 1506.02626. The answer is a density a layer such
that this layer alone costs no more than the budget. Losses add up, and beyond some sum retraining
does not find back: so all layers are then pruned together, and keep more until the sum is bearable.
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
"""Densities that are tried, from the paper's range."""
TOGETHER = 20
"""How many budgets all layers together may cost before retraining."""
_BATCH = 64


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
    """Return for each layer one of ``DENSITIES``: the smallest that costs at most ``budget``
    points alone, or as many steps above it as keep the sum within ``TOGETHER`` budgets.

    ``x_NCHW`` is network input, ``targets`` the right answers to it. A binary search a layer:
    accuracy is taken to fall as weights go. ``save`` is told the layers done so far, and
    ``known`` gives them back to a scan that goes on.
    """
    known = known or {}
    chosen: dict[str, int] = {}
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    baseline = _accuracy(model.module, x_NCHW, targets)
    with progress.task("sensitivity scan", total=len(graph.convs), unit="layer") as task:
        for conv in graph.convs:
            layer = model.module.get_submodule(conv.key)
            assert isinstance(layer, nn.Conv2d)
            original = layer.weight.detach().clone()
            low, high = 0, len(DENSITIES) - 1  # DENSITIES[high] is known to be good
            if conv.name in known:
                low = high = DENSITIES.index(known[conv.name])
            while low < high:
                middle = (low + high) // 2
                mask = magnitude_mask(original, DENSITIES[middle])
                with torch.no_grad():
                    layer.weight.copy_(original * mask)
                if baseline - _accuracy(model.module, x_NCHW, targets) <= budget:
                    high = middle
                else:
                    low = middle + 1
            with torch.no_grad():
                layer.weight.copy_(original)
            chosen[conv.name] = high
            if save is not None:
                save({name: DENSITIES[place] for name, place in chosen.items()})
            task.advance(1, f"{conv.name} {DENSITIES[high]:.0%}")
    original_state = {k: v.clone() for k, v in model.module.state_dict().items()}
    while True:
        densities = {name: DENSITIES[place] for name, place in chosen.items()}
        mask_holder(graph, magnitude_masks(model.module, graph, densities))(model.module)
        drop = baseline - _accuracy(model.module, x_NCHW, targets)
        model.module.load_state_dict(original_state)
        if drop <= TOGETHER * budget or min(chosen.values()) == len(DENSITIES) - 1:
            return densities
        chosen = {name: min(place + 1, len(DENSITIES) - 1) for name, place in chosen.items()}


def _accuracy(module: nn.Module, x_NCHW: torch.Tensor, targets: torch.Tensor) -> float:
    module.eval()
    with torch.inference_mode():
        right, device = 0, next(module.parameters()).device
        for start in range(0, len(targets), _BATCH):
            piece = slice(start, start + _BATCH)
            answers = module(x_NCHW[piece].to(device)).argmax(dim=1).cpu()
            right += int((answers == targets[piece]).sum())
    return 100 * right / len(targets)
