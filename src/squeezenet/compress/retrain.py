"""Retraining: what compression takes from a network, the network learns to do without.

It learns from the original's answers, and from labels where there are any (arXiv 1503.02531).
Deep Compression retrains twice, method ``rd`` what it prunes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.compress.distill import teaching
from squeezenet.compress.prune import Masks, mask_holder
from squeezenet.images.sets import ImageSet
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.train.fit import Fit, FitOptions
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

Hold = Callable[[nn.Module], None]
"""Restores, after each step, what must not change."""

_TEMPERATURE = 2.0
"""Softens the original's answers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Retraining:
    """Who teaches, and on what. ``labelled`` is the set that ``images`` are of, if labels teach
    beside ``teacher``, whose batch normalisation is folded."""

    teacher: LoadedModel
    images: ImageSet
    labelled: ImageSet | None
    seed: int
    options: FitOptions

    def run(self, module: nn.Module, recipe: Recipe, folder: RunFolder, hold: Hold | None) -> None:
        """Train ``module``, going on from the checkpoints in ``folder``, which is open.

        Raises:
            InterruptedRunError: a signal came; the same call goes on.
        """
        Fit(
            module=module,
            recipe=recipe,
            preprocessing=self.teacher.record.preprocessing,
            images=self.images,
            loss=teaching(copy_model(self.teacher), recipe, _TEMPERATURE, labelled=self.labelled),
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
    """Return ``model`` without what ``masks`` remove, retrained and then folded, on the CPU.

    What to prune is chosen on folded weights, as batch normalisation scales the filters; it is kept
    while retraining, since it helps there too.
    """
    student = copy_model(model)
    hold = mask_holder(graph, masks)
    hold(student.module)
    retrain(student.module, hold)
    student.module.cpu()
    return fold_batch_norm(student)


def retraining_recipe(
    base: Recipe, name: str, *, epochs: int, learning_rate: float, weight_decay: float
) -> Recipe:
    """The recipe that a network was trained by, made one for changed networks."""
    return dataclasses.replace(
        base,
        name=name,
        # Most of a pruned matrix is zero and must stay so: orthogonal steps are not for it.
        optimizer="sgd",
        epochs=epochs,
        max_steps=None,
        learning_rate=learning_rate,
        warmup_epochs=0.5,
        weight_decay=weight_decay,
        ema_decay=0.0,
        coarse_share=0.0,
        clip_norm=1.0,
    )
