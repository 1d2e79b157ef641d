"""The state that an optimiser step changes: the network, its optimisers, its moving average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from squeezenet.errors import DivergenceError
from squeezenet.train.distributed.gradients import (
    GradientOptions,
    average_statistics,
    replicated,
    statistics_of,
    with_synchronised_batch_norm,
    without_synchronisation,
)
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks
from squeezenet.train.ema import MovingAverage
from squeezenet.train.hardware import Hardware
from squeezenet.train.optimizers import Optimizers
from squeezenet.train.recipe import Recipe

LossFn: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits_NK, x_NCHW, labels) -> mean loss."""


class TrainState:
    """A module in training after ``step`` steps. ``learning_rate`` is that of the last step.

    Each rank has one. They differ in the running statistics of batch normalisation alone, until
    ``average_statistics``.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        hardware: Hardware,
        *,
        ranks: Ranks = ONE_RANK,
        gradients: GradientOptions | None = None,
    ) -> None:
        gradients = gradients or GradientOptions()
        self.module = module.to(hardware.device)
        if gradients.comm_hook != "powersgd" or ranks.size == 1:  # that needs plain matrices
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if gradients.sync_batch_norm and ranks.size > 1:
            self.module = with_synchronised_batch_norm(self.module, hardware.device)
        self._network = replicated(self.module, ranks, gradients)
        self.average = MovingAverage(self.module, recipe.ema_decay) if recipe.ema_decay else None
        self.step = 0
        self.learning_rate = 0.0
        self._optimizers = Optimizers(self.module, recipe)
        self._recipe = recipe
        self._hardware = hardware
        self._ranks = ranks
        self._has_joined = False

    @property
    def evaluated(self) -> nn.Module:
        """The module that is validated and saved: the moving average, if the recipe has one."""
        return self.average.module if self.average else self.module

    def set_learning_rate_factor(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times its peak."""
        self._optimizers.set_learning_rate_factor(factor)
        self.learning_rate = self._recipe.learning_rate * factor

    def compute_gradients(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, loss_fn: LossFn, num_images: int
    ) -> float:
        """Compute the gradients of the mean loss of a batch of ``num_images`` images of all ranks.

        ``x_NCHW`` and ``labels`` are this rank's part of it, and may be empty if others are not.
        Returns the part's share of the mean loss: the sum over ranks is the mean.

        Raises:
            DistributedError: another rank is gone.
        """
        self.module.train()
        self._optimizers.zero_grad()
        return float(self._ranks.call(lambda: self._backward(x_NCHW, labels, loss_fn, num_images)))

    def update(self, loss: float, after_step: Callable[[nn.Module], None] | None) -> None:
        """Do an optimiser step with the gradients of a batch; ``step`` is not counted here.

        ``loss`` is the mean loss of the batch of all ranks.

        Raises:
            DivergenceError: the loss is not finite; the module is as before.
        """
        if not math.isfinite(loss):
            error = DivergenceError(
                f"the loss is {loss} at step {self.step} with learning rate "
                f"{self.learning_rate:.3g}; start again with a lower --learning-rate"
            )
            error.is_shared = True
            raise error
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self._recipe.clip_norm)
        self._optimizers.step()
        if after_step is not None:
            after_step(self.module)
        if self.average is not None:
            self.average.update(self.module, self.step)

    def average_statistics(self) -> None:
        """Make the running statistics of batch normalisation those of all ranks' batches."""
        average_statistics(self._modules(), self._ranks)

    def gather_statistics(self) -> list[list[torch.Tensor]]:
        """Return the running statistics of every rank, for a checkpoint; all ranks call this.

        They are not averaged for it: when a checkpoint is written depends on time, and must change
        no bit of what follows.
        """
        mine = [each.detach().cpu() for each in statistics_of(self._modules())]
        return self._ranks.gather(mine) if mine and self._ranks.size > 1 else []

    def _modules(self) -> list[nn.Module]:
        return [self.module] + ([self.average.module] if self.average else [])

    def _backward(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, loss_fn: LossFn, num_images: int
    ) -> torch.Tensor:
        """Accumulate gradients in parts of ``micro_batch``; return the share of the mean loss.

        Only the last part's pass averages the gradients over ranks: DDP takes the mean, so each
        rank's are multiplied by the number of ranks.
        """
        micro_batch = self._recipe.micro_batch
        total = torch.zeros((), device=self._hardware.device)
        if self._ranks.size > 1 and not self._has_joined:
            # DDP orders the gradients anew after its first pass, and sums of three and more ranks
            # are rounded by that order. So none counts before, or a restart would change bits.
            self._join_with_nothing(x_NCHW)
            self._has_joined = True
        for start in range(0, len(labels), micro_batch):
            part = slice(start, start + micro_batch)
            is_last = start + micro_batch >= len(labels)
            with self._synchronised(is_last):
                with self._hardware.autocast():
                    loss = loss_fn(self._network(x_NCHW[part]), x_NCHW[part], labels[part])
                weight = len(labels[part]) / num_images
                (loss * (weight * self._ranks.size)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * weight
        if not len(labels):
            self._join_with_nothing(x_NCHW)
        return total

    def _synchronised(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if is_last else without_synchronisation(self._network)

    def _join_with_nothing(self, x_NCHW: torch.Tensor) -> None:
        """Take part in the ranks' average with gradients of 0, and leave statistics as they are."""
        self._network.eval()
        logits = self._network(x_NCHW.new_zeros((1, *x_NCHW.shape[1:])))
        (logits.float().sum() * 0.0).backward()
        self._network.train()

    def state_dict(self, statistics: list[list[torch.Tensor]]) -> dict[str, Any]:
        """Return all that a checkpoint needs of it; ``statistics`` are those of all ranks."""
        return {
            "statistics": statistics,
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
        self._load_statistics(state.get("statistics", []))

    def _load_statistics(self, of_ranks: list[list[torch.Tensor]]) -> None:
        """Take this rank's statistics, or the mean of all if there were more or fewer ranks."""
        if not of_ranks:
            return
        if len(of_ranks) == self._ranks.size:
            found = of_ranks[self._ranks.rank]
        else:
            found = [torch.stack(each).mean(dim=0) for each in zip(*of_ranks, strict=True)]
        for buffer, value in zip(statistics_of(self._modules()), found, strict=True):
            buffer.copy_(value)
