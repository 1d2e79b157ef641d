"""One optimiser step, against the same step by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from squeezenet.errors import DivergenceError
from squeezenet.train.hardware import Hardware
from squeezenet.train.recipe import Recipe
from squeezenet.train.train_state import LossFn, TrainState
from tests.train.small import CPU

X = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
Y = torch.randn(10, generator=torch.Generator().manual_seed(1))
PLAIN = Recipe(
    name="plain", learning_rate=0.1, momentum=0.0, weight_decay=0.0, clip_norm=0.0, ema_decay=0.0,
    micro_batch=10,
)  # fmt: skip


def squares(prediction: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(prediction.float()[:, 0], labels)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def state(**changes: object) -> TrainState:
    return TrainState(linear(), dataclasses.replace(PLAIN, **changes), CPU)


def do_step(
    trained: TrainState, loss: LossFn, after_step: Callable[[nn.Module], None] | None = None
) -> float:
    """Do one optimiser step on the batch; return its mean loss."""
    mean = trained.compute_gradients(X, Y, loss, len(Y))
    trained.update(mean, after_step)
    return mean


def gradient() -> tuple[float, torch.Tensor]:
    """The loss and the gradient of the weight at the start."""
    module = linear()
    loss = squares(module(X), X, Y)
    loss.backward()
    assert module.weight.grad is not None
    return float(loss.detach()), module.weight.grad


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 9, 10, 50])
def test_a_step_is_the_mean_gradient_whatever_the_parts(micro_batch: int) -> None:
    trained = state(micro_batch=micro_batch)
    trained.set_learning_rate_factor(0.5)
    loss, grad = gradient()
    assert do_step(trained, squares) == pytest.approx(loss)
    torch.testing.assert_close(trained.module.weight, linear().weight - 0.05 * grad)
    assert trained.learning_rate == pytest.approx(0.05)
    assert trained.step == 0  # the loop counts


def test_gradients_do_not_add_up_over_steps() -> None:
    trained = state()
    do_step(trained, squares)
    before = trained.module.weight.detach().clone()
    module = linear()
    module.load_state_dict(trained.module.state_dict())
    squares(module(X), X, Y).backward()
    do_step(trained, squares)
    assert module.weight.grad is not None
    torch.testing.assert_close(trained.module.weight, before - 0.1 * module.weight.grad)


def test_clipping() -> None:
    trained = state(clip_norm=0.01)
    before = [value.detach() for value in linear().parameters()]
    do_step(trained, squares)
    moved = [a - b.detach() for a, b in zip(before, trained.module.parameters(), strict=True)]
    norm = float(torch.cat([each.flatten() for each in moved]).norm())
    assert norm == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_what_must_hold_holds_in_the_average_too() -> None:
    def zero(module: nn.Module) -> None:
        assert isinstance(module, nn.Linear)
        with torch.no_grad():
            module.weight[0, 0] = 0.0

    trained = state(ema_decay=0.9)
    assert trained.average is not None and trained.evaluated is trained.average.module
    start = linear().weight
    trained.step = 2  # the decay is 3/12
    do_step(trained, squares, zero)
    assert trained.module.weight[0, 0] == 0.0
    expected = 0.25 * start + 0.75 * trained.module.weight
    torch.testing.assert_close(trained.average.module.weight, expected)
    plain = state()
    assert plain.average is None and plain.evaluated is plain.module


def test_a_loss_that_is_not_finite() -> None:
    trained = state()
    trained.step = 7
    trained.set_learning_rate_factor(0.123456)
    before = trained.module.weight.clone()

    def broken(prediction: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return squares(prediction, x, labels) * float("inf")

    message = "the loss is inf at step 7 with learning rate 0.0123; start again with a lower"
    with pytest.raises(DivergenceError, match=message):
        do_step(trained, broken)
    assert torch.equal(trained.module.weight, before)


def test_modules_are_in_training_mode_and_channels_last() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Dropout(0.5)).eval()
    trained = TrainState(module, PLAIN, CPU)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.ones(1, 3, 3, 3)
    trained.update(trained.compute_gradients(x, Y[:1], squares, 1), None)
    assert module.training


def test_bfloat16() -> None:
    seen = []

    def loss(prediction: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(prediction.dtype)
        return squares(prediction, x, labels)

    for bfloat16 in (True, False):
        hardware = Hardware(device=torch.device("cpu"), bfloat16=bfloat16)
        do_step(TrainState(linear(), PLAIN, hardware), loss)
    assert seen == [torch.bfloat16, torch.float32]


def test_a_loaded_state_goes_on_as_the_saved_one() -> None:
    options = {"momentum": 0.9, "ema_decay": 0.9}
    whole, first, second = state(**options), state(**options), state(**options)
    for step in range(4):
        whole.step = step
        do_step(whole, squares)
    for step in range(2):
        first.step = step
        do_step(first, squares)
    first.step = 2
    second.load_state_dict(first.state_dict([]))
    assert second.step == 2
    for step in range(2, 4):
        second.step = step
        do_step(second, squares)
    assert torch.equal(whole.module.weight, second.module.weight)
    assert whole.average is not None and second.average is not None
    assert torch.equal(whole.average.module.weight, second.average.module.weight)
