"""The losses of training: cross-entropy with the labels, and distillation from a teacher.

Distillation (arXiv 1503.02531) learns a teacher's predictions:
loss = T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over images, in nats. The
factor T^2 keeps the gradients of one size at every temperature T.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from squeezenet.data.split import class_weights
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.fit import Loss
from squeezenet.train.recipe import Recipe

TEMPERATURE = 2.0
"""Of the distillation. arXiv 1503.02531 uses 1 to 20; no other value is on record here."""


def cross_entropy(recipe: Recipe, images: ImageSet) -> Loss:
    """Return the recipe's loss: label smoothing, and class weights if class sizes differ."""
    weights = None
    if recipe.balance:
        weights = torch.from_numpy(class_weights(images.labels, len(images.class_names)))
        if bool((weights == weights[0]).all()):
            weights = None

    def loss(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # The mean over images, not over weights: else the parts of a batch would not add up.
        return functional.cross_entropy(
            logits_NK.float(),
            labels,
            weight=None if weights is None else weights.to(logits_NK.device),
            label_smoothing=recipe.label_smoothing,
            reduction="none",
        ).mean()

    return loss


def distillation(teacher: LoadedModel, temperature: float) -> Loss:
    """Return the loss without labels; a ``temperature`` above 1 softens both predictions."""
    network = teacher.module.eval()

    def loss(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            teacher_NK = network.to(x_NCHW.device)(x_NCHW).float() / temperature
        student_NK = functional.log_softmax(logits_NK.float() / temperature, dim=1)
        kl = functional.kl_div(
            student_NK,
            functional.log_softmax(teacher_NK, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return kl * temperature**2

    return loss


def teacher_loss(
    teacher: LoadedModel, recipe: Recipe, temperature: float, *, labelled: ImageSet | None
) -> Loss:
    """Return ``distillation``, plus cross-entropy with the labels of ``labelled`` if it is given.

    The sum of both is what arXiv 1503.02531 uses where there are labels.
    """
    distil = distillation(teacher, temperature)
    if labelled is None:
        return distil
    by_labels = cross_entropy(recipe, labelled)

    def both(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return distil(logits_NK, x_NCHW, labels) + by_labels(logits_NK, x_NCHW, labels)

    return both
