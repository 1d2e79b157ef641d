"""Prune what rounding would make zero anyway, and retrain the network without it.

Where labels teach and images are many, a full training finds a network of few weights that rounds
better. As many weights stay as rounding the original leaves, spread by LAMP. On CIFAR-10 at 90,000
bytes: 0.2 points of top-1 lost, where incremental quantization had lost 0.8 (docs/experiments).
"""

from __future__ import annotations

from squeezenet.compress.prune import layer_densities, magnitude_masks
from squeezenet.compress.rate_distortion.session import Session
from squeezenet.compress.retrain import Retraining, pruned, retraining_recipe
from squeezenet.compress.stage_table import KeptWeights
from squeezenet.compress.work_folder import DENSITY, PRUNE, open_stage, read_densities
from squeezenet.data.epochs import Epochs
from squeezenet.model.loaded import LoadedModel
from squeezenet.sealed_files import write_sealed_json
from squeezenet.train.recipe import Recipe

MAX_EPOCHS = 40
"""Twenty lose 0.6 points of CIFAR-10 and forty 0.4, at a density of 31%; with 52 it is the same
(docs/experiments/rate_distortion_cifar10.md)."""
UNNORMALISED_RATE = 0.1
"""Factor on the recipe's learning rate for networks without batch normalisation. Recipes are for
networks with it. Not measured (docs/experiments)."""


def load_density(session: Session) -> float | None:
    """Return the density that was chosen before an interruption; None if it is lost or damaged."""
    job = session.job
    return read_densities(job.work / DENSITY, job.progress).get("density")


def save_density(session: Session, density: float) -> None:
    """Keep the chosen density in the work folder."""
    path = session.job.work / DENSITY
    session.ranks.on_main(lambda: write_sealed_json(path, {"density": density}))


def prune_and_retrain(session: Session, density: float) -> tuple[LoadedModel, KeptWeights]:
    """Return the original pruned to ``density``, retrained and folded, and its kept weights.

    Raises:
        InterruptedRunError: a signal came; the same call resumes.
    """
    job, graph, module = session.job, session.graph, session.original.module
    masks = magnitude_masks(module, graph, layer_densities(module, graph, density, {}))
    recipe = pruning_recipe(session)
    training = Retraining(
        teacher=session.original,
        images=session.learn,
        labelled=job.images.retrain,
        seed=job.seed,
        options=job.options,
    )
    stage = {"stage": "prune", "recipe": recipe, "density": density}
    folder = session.ranks.on_main(lambda: open_stage(job.work / PRUNE, stage, job.progress))
    job.progress.log(f"prune: {density:.1%} of the weights stay, {recipe.epochs} epochs")
    student = pruned(
        job.model, graph, masks, lambda module, hold: training.run(module, recipe, folder, hold)
    )
    student.module.to(next(module.parameters()).device)
    return student, [mask.cpu().numpy() for mask in masks.values()]


def pruning_recipe(session: Session) -> Recipe:
    """Return the recipe: whole epochs, at least one, within the effort's steps."""
    base = session.job.base_recipe
    steps = Epochs(num_images=len(session.learn), batch_size=base.batch_size)
    num_epochs = int(steps.num_done(session.preset.retraining_steps))
    factor = 1.0 if session.job.model.record.spec.batch_norm else UNNORMALISED_RATE
    return retraining_recipe(
        base,
        "rd/prune",
        epochs=max(1, min(MAX_EPOCHS, num_epochs)),
        learning_rate=base.learning_rate * factor,
        weight_decay=base.weight_decay,
    )
