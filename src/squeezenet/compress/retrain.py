"""Retraining: a pruned or clustered network recovers what it lost, by distillation.

The original teaches by its predictions, and labels teach as well where there are any
(arXiv 1503.02531). Deep Compression retrains twice; method ``rd`` retrains what it prunes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.arch.record import ModelRecord
from squeezenet.compress.prune import Masks, mask_holder
from squeezenet.images.sets import ImageSet
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.train.fit import Fit, FitOptions
from squeezenet.train.losses import TEMPERATURE, teacher_loss
from squeezenet.train.recipe import (
    Recipe,
    default_recipe,
    recorded_augmentation,
)
from squeezenet.train.recipe_file import find_recipe
from squeezenet.train.run_folder import RunFolder

Hold = Callable[[nn.Module], None]
"""Restores, after each step, what must not change."""

WARMUP_EPOCHS = 0.5
CLIP_NORM = 1.0
"""Against the large first gradients of a network that has just lost weights. No measurement is on
record for either."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Retraining:
    """The teacher, and the images to learn from.

    ``teacher``: the original, its batch normalisation folded. ``labelled``: the whole labelled set
    that ``images`` come from, if labels teach as well; None for distillation alone.
    """

    teacher: LoadedModel
    images: ImageSet
    labelled: ImageSet | None
    seed: int
    options: FitOptions

    def run(self, module: nn.Module, recipe: Recipe, folder: RunFolder, hold: Hold | None) -> None:
        """Train ``module``, resuming from the checkpoints in ``folder``, which is open.

        Raises:
            InterruptedRunError: a signal came; the same call resumes.
        """
        Fit(
            module=module,
            recipe=recipe,
            preprocessing=self.teacher.record.preprocessing,
            images=self.images,
            loss=teacher_loss(
                copy_model(self.teacher), recipe, TEMPERATURE, labelled=self.labelled
            ),
            folder=folder,
            seed=self.seed,
            after_step=hold,
            options=self.options,
        ).run()


def pruned(
    model: LoadedModel,
    graph: Graph,
    masks: Masks,
    retrain: Callable[[nn.Module, Hold], None],
) -> LoadedModel:
    """Return ``model`` pruned by ``masks``, retrained by ``retrain`` and folded, on the CPU.

    Masks come from folded weights, since batch normalisation scales the filters. Retraining runs
    with batch normalisation, which helps there too.
    """
    student = copy_model(model)
    hold = mask_holder(graph, masks)
    hold(student.module)
    retrain(student.module, hold)
    student.module.cpu()
    return fold_batch_norm(student)


def base_recipe(record: ModelRecord, source: str, name: str | None) -> Recipe:
    """Return the named recipe, or the data's default with the augmentation of the training.

    ``source``: the images, as the DATA argument.

    Raises:
        UnknownNameError: there is no such recipe.
    """
    if name is not None:
        return find_recipe(name)
    recipe = default_recipe(source, input_size=record.spec.input_size)
    known = recorded_augmentation(record)
    return recipe if known is None else dataclasses.replace(recipe, augmentation=known)


def retraining_recipe(
    base: Recipe, name: str, *, epochs: int, learning_rate: float, weight_decay: float
) -> Recipe:
    """Return ``base`` changed for retraining: SGD, no moving average, no small images at first."""
    return dataclasses.replace(
        base,
        name=name,
        # Muon's orthogonal updates are not for matrices that are mostly zero and must stay so.
        optimizer="sgd",
        epochs=epochs,
        max_steps=None,
        learning_rate=learning_rate,
        warmup_epochs=WARMUP_EPOCHS,
        weight_decay=weight_decay,
        ema_decay=0.0,
        coarse_share=0.0,
        clip_norm=CLIP_NORM,
    )
