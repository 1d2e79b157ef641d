"""Recipes: all settings of a training but the network, the data and the seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import from_plain
from squeezenet.data.augment import Augmentation
from squeezenet.data.digits import DIGITS
from squeezenet.data.epochs import Epochs
from squeezenet.errors import SpecError, UnknownNameError
from squeezenet.model.init import InitKind

MIN_STEPS_PER_EPOCH = 16
MIN_BATCH_SIZE = 16
"""For small sets, see ``Recipe.for_set_of``. Both are choices, not measured."""
_MAX_SMALL_INPUT = 64
"""Largest input side in pixels for which the recipe ``small`` is chosen."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training recipe.

    Length: ``epochs``, or ``max_steps`` optimiser steps if given.
    Batches: ``batch_size`` images per step, computed in parts of at most ``micro_batch`` images
    whose gradients add up. ``balance`` gives every class the same total weight in the loss.
    Optimiser: "sgd", "adam", or "muon", which trains all weights but those of the first and last
    layer by Muon at peak rate ``matrix_rate`` with decoupled ``matrix_decay``, and the rest by SGD.
    ``decay_all``: weight decay on biases and batch normalisation too. ``clip_norm``: max norm of
    the gradient, 0 for no limit. ``ema_decay``: of the weights' moving average, 0 for none.
    Schedule: ``learning_rate`` is the peak, after ``warmup_epochs``; it decays to 0 at the end.
    Progressive resizing (J. Howard and others, DAWNBench, 2018): the first ``coarse_share`` of the
    steps get images at ``coarse_scale`` times their height and width, at about half the cost.
    Network from scratch: ``init``, ``batch_norm``; ``caffe`` chooses the authors' geometry: 227
    pixels of BGR, a padded conv10 in v1.0, and a ReLU after it.
    """

    name: str
    epochs: int = 60
    max_steps: int | None = None
    batch_size: int = 128
    micro_batch: int = 32
    learning_rate: float = 0.1
    momentum: float = 0.9
    optimizer: Literal["sgd", "muon", "adam"] = "sgd"
    matrix_rate: float = 0.05
    matrix_decay: float = 0.0
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_all: bool = False
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_epochs: float = 2.0
    label_smoothing: float = 0.05
    clip_norm: float = 2.0
    ema_decay: float = 0.998
    coarse_share: float = 0.0
    coarse_scale: float = 0.75
    balance: bool = True
    init: InitKind = "he"
    batch_norm: bool = True
    caffe: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def at_rate(self, learning_rate: float) -> Recipe:
        """Return the recipe with another peak rate; Muon's changes by the same factor."""
        factor = learning_rate / self.learning_rate
        return dataclasses.replace(
            self, learning_rate=learning_rate, matrix_rate=self.matrix_rate * factor
        )

    def for_set_of(self, images: int) -> Recipe:
        """Return the recipe for a set of ``images`` images, with smaller batches for a small set.

        The batch size is halved until an epoch has ``MIN_STEPS_PER_EPOCH`` steps, but not below
        ``MIN_BATCH_SIZE``. Learning rates are proportional to the batch size (arXiv 1706.02677).
        """
        size = self.batch_size
        while size >= 2 * MIN_BATCH_SIZE and images < MIN_STEPS_PER_EPOCH * size:
            size //= 2
        smaller = self.at_rate(self.learning_rate * size / self.batch_size)
        return dataclasses.replace(smaller, batch_size=size)

    def total_steps(self, num_images: int) -> int:
        """Return the number of optimiser steps on a training set of ``num_images``."""
        steps = Epochs(num_images=num_images, batch_size=self.batch_size)
        return self.max_steps or steps.num_steps(self.epochs)

    def __post_init__(self) -> None:
        def require(condition: bool, what: str) -> None:
            if not condition:
                raise SpecError(f"recipe {self.name}: {what}")

        require(self.epochs >= 1, f"epochs is {self.epochs}, expected at least 1")
        require(
            self.max_steps is None or self.max_steps >= 1,
            f"max_steps is {self.max_steps}, expected at least 1",
        )
        require(self.batch_size >= 1, f"batch_size is {self.batch_size}, expected at least 1")
        require(self.micro_batch >= 1, f"micro_batch is {self.micro_batch}, expected at least 1")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, expected above 0")
        require(self.matrix_rate > 0, f"matrix_rate is {self.matrix_rate}, expected above 0")
        for name in ("momentum", "label_smoothing", "ema_decay", "coarse_share"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} is {value}, expected 0 <= {name} < 1")
        require(0 < self.coarse_scale <= 1, f"coarse_scale is {self.coarse_scale}, expected (0, 1]")
        for name in ("weight_decay", "matrix_decay", "warmup_epochs", "clip_norm"):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value}, expected at least 0")


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="default"),
        # The authors' solver.prototxt and train_val.prototxt; 170,000 iterations.
        Recipe(
            name="paper",
            max_steps=170_000,
            batch_size=512,
            micro_batch=64,
            learning_rate=0.04,
            nesterov=False,
            weight_decay=2e-4,
            decay_all=True,
            schedule="linear",
            warmup_epochs=0.0,
            label_smoothing=0.0,
            clip_norm=0.0,
            ema_decay=0.0,
            balance=False,
            init="xavier",
            batch_norm=False,
            caffe=True,
            augmentation=Augmentation(crop="random", zoom=256 / 227, flip=False, colour=0.0),
        ),
        # ImageNet in fewer epochs than the paper's 68. The source of every number is in
        # docs/imagenet.md; nobody has run it to its end.
        Recipe(
            name="imagenet",
            epochs=50,
            batch_size=1024,
            micro_batch=128,
            learning_rate=0.4,
            optimizer="muon",
            matrix_rate=0.02,
            matrix_decay=0.05,
            weight_decay=5e-5,
            schedule="linear",
            ema_decay=0.999,
            coarse_share=0.75,
            coarse_scale=160 / 224,
            balance=False,
            augmentation=Augmentation(colour=0.0),
        ),
        # No flips: a mirrored "6" is not a digit. Shifts of one pixel: the images have 8x8.
        Recipe(
            name="digits",
            epochs=60,
            batch_size=64,
            micro_batch=64,
            learning_rate=0.1,
            augmentation=Augmentation(crop="random", padding=1, flip=False, colour=0.1),
        ),
        # For CIFAR and similar sets: objects that fill an image of at most 64 pixels. Tuned for few
        # epochs; the alternatives that were measured are in docs/experiments/cifar10.md.
        Recipe(
            name="small",
            epochs=64,
            batch_size=256,
            micro_batch=256,
            optimizer="muon",
            matrix_decay=0.05,
            schedule="linear",
            label_smoothing=0.1,
            ema_decay=0.998,
            coarse_share=0.4,
            augmentation=Augmentation(crop="random", padding=4, colour=0.0, cutout=0.25),
        ),
        # The head starts as logistic regression, so a short training at a low rate is enough.
        Recipe(
            name="finetune",
            epochs=10,
            batch_size=32,
            micro_batch=32,
            learning_rate=0.002,
            warmup_epochs=1.0,
            weight_decay=2e-4,
            ema_decay=0.98,
        ),
    )
}


def recipe_named(name: str) -> Recipe:
    """Look up a recipe.

    Raises:
        UnknownNameError: lists the known names.
    """
    if name not in RECIPES:
        raise UnknownNameError(
            f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}, or a .json file with "
            "what differs from one of them"
        )
    return RECIPES[name]


def default_recipe(
    source: str, *, input_size: tuple[int, int], start: ModelRecord | None = None
) -> Recipe:
    """Choose a recipe by the DATA argument and the network's input (height, width).

    ``start`` is the record of a model to fine-tune. If we trained it, its augmentation is kept:
    images that must not be flipped in one training must not be flipped in the next.
    """
    if start is not None:
        recipe = recipe_named("finetune")
        known = recorded_augmentation(start)
        return recipe if known is None else dataclasses.replace(recipe, augmentation=known)
    if source == DIGITS:
        return recipe_named("digits")
    return recipe_named("small" if max(input_size) <= _MAX_SMALL_INPUT else "default")


def recorded_augmentation(record: ModelRecord) -> Augmentation | None:
    """Return the augmentation of a model's training, or None if we did not train it."""
    provenance: Any = record.provenance
    while isinstance(provenance, dict):
        if "augmentation" in provenance:
            try:
                return from_plain(Augmentation, provenance["augmentation"], "augmentation")
            except SpecError:
                return None
        provenance = provenance.get("source")
    return None
