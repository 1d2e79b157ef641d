"""Optimisers: SGD, Adam, or Muon for hidden convolutions with SGD for the other parameters.

Muon (K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024) orthogonalises the
momentum of each weight matrix, so that all directions of a layer learn at the same rate.
torch.optim.Muon is not used: it accepts matrices only, no convolutions, and computes in bfloat16,
which is fourteen times slower on a CPU than float32 here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import nn

from squeezenet.train.recipe import Recipe

_ADAM_BETA2 = 0.99
"""Averages squared gradients over about 100 steps; runs here have a few hundred or thousand."""
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's quintic: steep at 0, singular values end between 0.7 and 1.2."""
_NEWTON_SCHULZ_STEPS = 5
"""As in Jordan's Muon."""
_MAX_ROWS = 1024
"""A matrix with both more rows and more columns, as AlexNet has, is left to SGD: orthogonalising it
would take longer than the rest of the step."""


class Optimizers:
    """The optimisers of one module behind one interface."""

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        matrices: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        not_decayed: list[nn.Parameter] = []
        hidden = _hidden_matrices(module)
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if recipe.optimizer == "muon" and name in hidden:
                matrices.append(parameter)
            elif recipe.decay_all or parameter.ndim > 1:
                decayed.append(parameter)
            else:
                not_decayed.append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": not_decayed, "weight_decay": 0.0},
        ]
        rate, momentum = recipe.learning_rate, recipe.momentum
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.Adam(groups, lr=rate, betas=(momentum, _ADAM_BETA2))
            if recipe.optimizer == "adam"
            else torch.optim.SGD(
                groups, lr=rate, momentum=momentum, nesterov=recipe.nesterov and momentum > 0
            )
        ]
        if matrices:
            self._all.append(
                Muon(
                    matrices,
                    lr=recipe.matrix_rate,
                    momentum=recipe.momentum,
                    decay=recipe.matrix_decay,
                )
            )
        self._peaks = [[group["lr"] for group in each.param_groups] for each in self._all]

    def set_learning_rate_factor(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times its peak."""
        for each, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(each.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    def zero_grad(self) -> None:
        for each in self._all:
            each.zero_grad(set_to_none=True)

    def step(self) -> None:
        for each in self._all:
            each.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [each.state_dict() for each in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for each, state in zip(self._all, states, strict=True):
            each.load_state_dict(state)


def _hidden_matrices(module: nn.Module) -> set[str]:
    """Return the names of the weights of all layers but the first and the last."""
    weights = [(name, value) for name, value in module.named_parameters() if value.ndim > 1]
    return {name for name, value in weights[1:-1] if min(len(value), value[0].numel()) <= _MAX_ROWS}


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for convolutions: (O, I, H, W) is a matrix of O rows.

    ``decay`` is decoupled: each step multiplies a weight by ``1 - lr * decay``.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; return the value of ``closure``."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            self._step()
        return loss

    def _step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                momentum.mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad.add(momentum, alpha=group["momentum"])  # Nesterov
                # The order of the columns does not matter; in this one they are contiguous.
                rows = ahead.movedim(1, -1).reshape(len(ahead), -1)
                step = orthogonalise(rows) * max(1.0, rows.shape[0] / rows.shape[1]) ** 0.5
                shape = (*ahead.movedim(1, -1).shape,)
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.sub_(step.reshape(shape).movedim(-1, 1), alpha=group["lr"])


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Return about U V^T of a matrix U S V^T, by the Newton-Schulz iteration."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x: torch.Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
