"""Recipes: everything that decides how a network is trained, besides network, data and seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from squeezenet.data.augment import Augmentation
from squeezenet.errors import SpecError, UnknownNameError
from squeezenet.model.init import InitKind

STEPS_PER_EPOCH = 16
SMALLEST_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training recipe.

    Length is ``epochs`` or, if given, ``max_steps`` optimiser steps. A batch of ``batch_size`` is
    worked through in pieces of at most ``micro_batch`` images whose gradients add up.
    ``learning_rate`` is reached after ``warmup_epochs`` and decays to 0. ``decay_all`` puts
    weight decay on biases and batch normalisation too. ``optimizer`` "muon" trains the weights
    between hidden layers by Muon at ``matrix_rate`` with decoupled ``matrix_decay``, and the rest
    by SGD; "adam" is Adam for all. The first ``coarse_share`` of the steps see images shrunk to
    ``coarse_scale`` of their side, in networks of any input size (progressive resizing; J. Howard
    and others, DAWNBench, 2018): they cost half, and what they teach carries over. ``clip_norm`` 0
    and ``ema_decay`` 0 switch those off. ``balance`` weighs classes of unequal size.
    ``batch_norm`` is what the recipe asks of a network that it trains from scratch; ``caffe`` asks
    for the authors' geometry: 227 pixels of BGR, a padded conv10 in v1.0, and a ReLU behind it.
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
        """Return the recipe at another learning rate, Muon's changed by the same factor."""
        factor = learning_rate / self.learning_rate
        return dataclasses.replace(
            self, learning_rate=learning_rate, matrix_rate=self.matrix_rate * factor
        )

    def for_set_of(self, images: int) -> Recipe:
        """Return the recipe for a set of so many images: smaller batches where they are few.

        A network learns by steps; an epoch shall have ``STEPS_PER_EPOCH`` of them, in batches of
        ``SMALLEST_BATCH`` or more. The learning rates follow the batch's size.
        """
        size = self.batch_size
        while size >= 2 * SMALLEST_BATCH and images < STEPS_PER_EPOCH * size:
            size //= 2
        smaller = self.at_rate(self.learning_rate * size / self.batch_size)
        return dataclasses.replace(smaller, batch_size=size)

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
        # A "6" flipped is no digit; 8x8 pixels bear a shift by one.
        Recipe(
            name="digits",
            epochs=60,
            batch_size=64,
            micro_batch=64,
            learning_rate=0.1,
            augmentation=Augmentation(crop="random", padding=1, flip=False, colour=0.1),
        ),
        # CIFAR and its like: objects that fill a frame of at most 64 pixels. Made for few epochs;
        # docs/results.md has what was tried.
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
        # The head begins as logistic regression, so little is left to learn, and slowly.
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
        UnknownNameError: lists the names that there are.
    """
    if name not in RECIPES:
        raise UnknownNameError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
