"""Losses that teach a changed network what the original predicts (arXiv 1503.02531)."""

from __future__ import annotations

import torch
from torch.nn import functional

from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.fit import Loss
from squeezenet.train.recipe import Recipe
from squeezenet.train.run import cross_entropy


def distillation(teacher: LoadedModel, temperature: float) -> Loss:
    """Loss without labels: KL divergence from the original's answers (arXiv 1503.02531), softened
    by a ``temperature`` above 1."""
    network = teacher.module.eval()

    def loss(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = network.to(x_NCHW.device)(x_NCHW).float() / temperature
        answer = functional.log_softmax(logits_NK.float() / temperature, dim=1)
        kl = functional.kl_div(
            answer, functional.log_softmax(wanted, dim=1), reduction="batchmean", log_target=True
        )
        return kl * temperature**2

    return loss


def teaching(
    teacher: LoadedModel, recipe: Recipe, temperature: float, *, labelled: ImageSet | None
) -> Loss:
    """What the original answers, which tells more than labels do, and labels where there are any
    (arXiv 1503.02531): the sum of both."""
    distil = distillation(teacher, temperature)
    if labelled is None:
        return distil
    by_labels = cross_entropy(recipe, labelled)

    def both(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return distil(logits_NK, x_NCHW, labels) + by_labels(logits_NK, x_NCHW, labels)

    return both
