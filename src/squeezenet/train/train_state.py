"""The state that an optimiser step changes: the network, its optimisers, its moving average."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from squeezenet.errors import DivergenceError
from squeezenet.train.ema import MovingAverage
from squeezenet.train.hardware import Hardware
from squeezenet.train.optimizers import Optimizers
from squeezenet.train.recipe import Recipe

LossFn: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits_NK, x_NCHW, labels) -> mean loss."""


class TrainState:
    """A module in training after ``step`` steps. ``learning_rate`` is that of the last step."""

    def __init__(self, module: nn.Module, recipe: Recipe, hardware: Hardware) -> None:
        self.module = module.to(hardware.device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = MovingAverage(self.module, recipe.ema_decay) if recipe.ema_decay else None
        self.step = 0
        self.learning_rate = 0.0
        self._optimizers = Optimizers(self.module, recipe)
        self._recipe = recipe
        self._hardware = hardware

    @property
    def evaluated(self) -> nn.Module:
        """The module that is validated and saved: the moving average, if the recipe has one."""
        return self.average.module if self.average else self.module

    def set_learning_rate_factor(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times its peak."""
        self._optimizers.set_learning_rate_factor(factor)
        self.learning_rate = self._recipe.learning_rate * factor

    def update(
        self,
        x_NCHW: torch.Tensor,
        labels: torch.Tensor,
        loss_fn: LossFn,
        after_step: Callable[[nn.Module], None] | None,
    ) -> float:
        """Do one optimiser step on a batch and return its mean loss; ``step`` is not counted here.

        Raises:
            DivergenceError: the loss is not finite; the module is as before.
        """
        self.module.train()
        self._optimizers.zero_grad()
        loss = self._backward(x_NCHW, labels, loss_fn)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss is {loss} at step {self.step} with learning rate "
                f"{self.learning_rate:.3g}; start again with a lower --learning-rate"
            )
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self._recipe.clip_norm)
        self._optimizers.step()
        if after_step is not None:
            after_step(self.module)
        if self.average is not None:
            self.average.update(self.module, self.step)
        return loss

    def _backward(self, x_NCHW: torch.Tensor, labels: torch.Tensor, loss_fn: LossFn) -> float:
        """Accumulate the gradients of a batch in parts of ``micro_batch``; return the mean loss."""
        micro_batch = self._recipe.micro_batch
        total = torch.zeros((), device=self._hardware.device)
        for start in range(0, len(labels), micro_batch):
            part = slice(start, start + micro_batch)
            with self._hardware.autocast():
                loss = loss_fn(self.module(x_NCHW[part]), x_NCHW[part], labels[part])
            weight = len(labels[part]) / len(labels)
            (loss * weight).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * weight
        return float(total)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint needs of it."""
        return {
            "step": self.step,
            "module": self.module.state_dict(),
            "optimizers": self._optimizers.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.step = state["step"]
        self.module.load_state_dict(state["module"])
        self._optimizers.load_state_dict(state["optimizers"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
