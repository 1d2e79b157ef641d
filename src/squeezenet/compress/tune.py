"""Method ``rd``'s last step: levels, scales and biases trained, with the original as teacher.

Levels are in the loop, and so are the bytes of activations and the bits that the coder takes: their
price follows the file's size, so that training moves along what is allowed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedLayer, TensorScale
from squeezenet.compress.activations import rounded_activations
from squeezenet.compress.compressed_network import copy_of, teaching
from squeezenet.compress.level_network import UP, LevelNetwork
from squeezenet.compress.level_search import NetworkLevels
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.fit import Fit, FitOptions
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

_MANY = 10_000
_SETTINGS = {False: (32, 0.005), True: (128, 0.003)}
"""Batch and Adam's rate, in levels a step; True: on ``_MANY`` images or more."""
_MOST_EPOCHS = 15
"""Of 640 photographs, 15 epochs have helped on others, 30 have not."""
_MIX = 0.5
"""A few hundred images are soon known by heart; their blends are many."""
_PRICE_STEPS, _ROOM = 25, 0.9995
"""Every so many steps the price of bits follows the file's size, whose aim is this share of what is
allowed."""
_MOST_UP, _UP_STEP = 0.8, 0.002
"""A file that ends too large all the same rounds fewer levels up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """One job. ``labelled`` is the set that ``images`` are of, if labels teach beside the original.
    ``size`` tells what levels take as a file, and ``activations`` how activations are rounded.
    ``steps`` are the most."""

    original: LoadedModel
    graph: Graph
    images: ImageSet
    labelled: ImageSet | None
    activations: Mapping[str, TensorScale]
    base_recipe: Recipe
    steps: int
    size: Callable[[NetworkLevels], int]
    folder: RunFolder
    seed: int
    options: FitOptions

    def run(
        self, layers: tuple[CompressedLayer, ...], price: float, *, most_bytes: int
    ) -> NetworkLevels:
        """Return better levels than ``layers`` have, of at most ``most_bytes`` unless that cannot
        be; ``price`` is in nats a bit.

        Raises:
            InterruptedRunError: a signal came; the same call goes on from the folder's checkpoint.
        """
        recipe = self._recipe()
        module = copy_of(self.original).module
        network = LevelNetwork(module, self.graph, layers)
        network.set_price(price)
        taught = teaching(self.original, recipe, 1.0, labelled=self.labelled)
        # Of two teachers each counts half, so that a bit stays worth as much.
        part = 1.0 if self.labelled is None else 0.5

        def loss(
            logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor
        ) -> torch.Tensor:
            return part * taught(logits_NK, x_NCHW, labels) + network.cost()

        def press(_: nn.Module) -> None:
            if network.count_step() % _PRICE_STEPS == 0:
                network.press(self.size(network.layers()) / (_ROOM * most_bytes) - 1)

        self.folder.open({"stage": "tune", "recipe": recipe})
        fit = Fit(
            module=network,
            recipe=recipe,
            preprocessing=self.original.record.preprocessing,
            images=self.images,
            loss=loss,
            folder=self.folder,
            seed=self.seed,
            after_step=press,
            options=self.options,
        )
        with rounded_activations(module, self.graph, self.activations):
            fit.run()
        tuned: NetworkLevels = {}
        for up in np.arange(UP, _MOST_UP, _UP_STEP):
            tuned = network.layers(float(up))
            if self.size(tuned) <= most_bytes:
                break
        return tuned

    def _recipe(self) -> Recipe:
        batch_size, learning_rate = _SETTINGS[len(self.images) >= _MANY]
        augmentation = self.base_recipe.augmentation
        if self.labelled is None:
            augmentation = dataclasses.replace(augmentation, mix=_MIX)
        return dataclasses.replace(
            self.base_recipe,
            name="rd/tune",
            augmentation=augmentation,
            optimizer="adam",
            schedule="linear",
            batch_size=batch_size,
            max_steps=max(1, min(self.steps, _MOST_EPOCHS * len(self.images) // batch_size)),
            learning_rate=learning_rate,
            warmup_epochs=0.0,
            weight_decay=0.0,
            ema_decay=0.0,
            coarse_share=0.0,
            clip_norm=0.0,
        )
