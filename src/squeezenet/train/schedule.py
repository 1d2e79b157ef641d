"""The learning rate at each step, as a share of its peak: linear warm-up, then decay to 0."""

from __future__ import annotations

import math

from squeezenet.train.recipe import Recipe


def rate_share(recipe: Recipe, step: int, total_steps: int, steps_an_epoch: int) -> float:
    """Return the share for step ``step`` (from 0). The warm-up never exceeds a quarter."""
    warmup = min(round(recipe.warmup_epochs * steps_an_epoch), total_steps // 4)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total_steps - warmup)
    return 1 - done if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
