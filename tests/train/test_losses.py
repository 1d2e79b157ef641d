"""The losses of training."""

from __future__ import annotations

import pytest
import torch

from squeezenet.data.digits import load_digits
from squeezenet.model.fold import fold_batch_norm
from squeezenet.train.losses import cross_entropy, distillation, teacher_loss
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import untrained_model


def test_it_is_the_softened_divergence_from_the_teacher() -> None:
    model = fold_batch_norm(untrained_model())
    x, labels = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    own = model.module.eval()(x).detach()
    student = own.flip(1) * 3
    for temperature in (1.0, 2.0, 3.0):
        loss = distillation(model, temperature)
        assert float(loss(own, x, labels)) == pytest.approx(0, abs=1e-6)
        p, q = (z.double().div(temperature).softmax(1) for z in (own, student))
        wanted = temperature**2 * float((p * (p / q).log()).sum(1).mean())
        assert float(loss(student, x, labels)) == pytest.approx(wanted, rel=1e-4)


def test_the_teacher_is_not_trained() -> None:
    model = fold_batch_norm(untrained_model())
    x = torch.randn(4, 1, 8, 8)
    student = torch.randn(4, 10, requires_grad=True)
    distillation(model, 2.0)(student, x, torch.zeros(4, dtype=torch.int64)).backward()
    assert student.grad is not None
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_labels_add_cross_entropy() -> None:
    model, images = fold_batch_norm(untrained_model()), load_digits()["train"]
    recipe = recipe_named("digits")
    x, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    student = torch.randn(4, 10)
    alone = teacher_loss(model, recipe, 2.0, labelled=None)(student, x, labels)
    both = teacher_loss(model, recipe, 2.0, labelled=images)(student, x, labels)
    by_labels = cross_entropy(recipe, images)(student, x, labels)
    assert float(both) == pytest.approx(float(alone + by_labels), rel=1e-6)
    assert float(alone) == pytest.approx(float(distillation(model, 2.0)(student, x, labels)))
