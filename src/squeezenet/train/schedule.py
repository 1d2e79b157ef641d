"""The learning rate at each step: linear warm-up, then cosine or linear decay to 0."""

from __future__ import annotations

import math

from squeezenet.train.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, total_steps: int, steps_an_epoch: int) -> float:
    """Return the rate of optimiser step ``step`` (from 0). The warm-up never exceeds a quarter."""
    warmup = min(round(recipe.warmup_epochs * steps_an_epoch), total_steps // 4)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - warmup) / max(1, total_steps - warmup)
    share = 1 - done if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return recipe.learning_rate * share
