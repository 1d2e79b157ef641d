"""An exponential moving average of a module's weights and statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """``module`` is the averaged copy of a module, in evaluation mode.

    The decay at step t is min(``decay``, (1 + t) / (10 + t)): it starts at 0.1, so the initial
    weights have little influence (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(source).eval()
        self.module.requires_grad_(False)
        self.decay = decay

    def update(self, source: nn.Module, step: int) -> None:
        """Average in the weights after optimiser step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = self.module.state_dict(), source.state_dict()
        floats = [key for key, value in averaged.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_(
                [averaged[key] for key in floats], [current[key] for key in floats], 1 - decay
            )
            for key, value in averaged.items():
                if not value.is_floating_point():
                    value.copy_(current[key])
