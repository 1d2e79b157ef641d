"""The learning-rate schedule: linear warm-up, then decay to 0."""

from __future__ import annotations

import math

from squeezenet.train.recipe import Recipe


def learning_rate_factor(
    recipe: Recipe, step: int, total_steps: int, steps_per_epoch: float
) -> float:
    """Return the learning rate at ``step`` (from 0) as a fraction of the recipe's peak.

    The warm-up takes at most a quarter of the steps.
    """
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total_steps // 4)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total_steps - warmup)
    return 1 - progress if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
