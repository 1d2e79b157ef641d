"""Method ``rd``'s last step: rounding by and by, with the original as teacher.

Some outputs of each layer are rounded for good, those of the largest errors first, and the others
are trained until the network answers as the original again; then more of them are (Incremental
Network Quantization, arXiv 1702.03044, by outputs, since each has a trellis of its own). In the
end only the errors of the last few are left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from squeezenet.arch.graph import Graph
from squeezenet.compress.distill import teaching
from squeezenet.compress.images import MANY_IMAGES
from squeezenet.compress.rate_distortion.level_search import LevelSearch, NetworkLevels, Outputs
from squeezenet.compress.rate_distortion.partly_rounded import PartRounded
from squeezenet.compress.rate_distortion.trellis_rounding import NARROW, Breadth
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.train.fit import Fit, FitOptions
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

_PARTS = ((0.5, 0.4), (0.75, 0.3), (0.9, 0.3))
"""Share of the outputs that are rounded, and of the steps that are then trained."""
_SETTINGS = {False: (32, 0.005), True: (128, 0.005)}
"""Batch and Adam's rate, in levels a step; True: on ``MANY_IMAGES`` or more."""
_MOST_EPOCHS = {False: 15, True: 30}
"""Of 640 photographs, 15 epochs have helped on others, 30 have not. True: as above."""
_TEMPERATURE = 3.0
"""Of images that it was trained on the original is sure: softened answers tell more."""
_MIX = 0.5
"""A few hundred images are soon known by heart; their blends are many. Labels tell more than
blends where there are both: half a point of CIFAR-10's."""
_SEARCHES, _WIDEST = 5, 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """One job. ``labelled`` is the set that ``images`` are of, if labels teach beside the original.
    ``size`` tells what levels take as a file; ``steps`` are the most; ``breadth`` is that
    of rounding."""

    original: LoadedModel
    graph: Graph
    images: ImageSet
    labelled: ImageSet | None
    base_recipe: Recipe
    steps: int
    breadth: Breadth
    size: Callable[[NetworkLevels], int]
    folder: Callable[[str], RunFolder]
    seed: int
    options: FitOptions

    def run(
        self, search: LevelSearch, found: NetworkLevels, price: float, *, most_bytes: int
    ) -> NetworkLevels:
        """Return better levels than ``found``, which were found at ``price``, of at most
        ``most_bytes`` unless that cannot be.

        Raises:
            InterruptedRunError: a signal came; the same call goes on from the folder's checkpoints.
        """
        rounded: Outputs = {name: np.zeros(len(x.scales_O), np.bool_) for name, x in found.items()}
        for i, (share, part) in enumerate(_PARTS):
            rounded = _more(rounded, search.errors(found), share)
            network = self._trained(search, found, rounded, price, i, part)
            search = search.of_weights(network.weights())
            price, found = self._fitting(search, price, (found, rounded), most_bytes)
        return found

    def _trained(
        self,
        search: LevelSearch,
        found: NetworkLevels,
        rounded: Outputs,
        price: float,
        i: int,
        part: float,
    ) -> PartRounded:
        recipe = self._recipe(part)
        taught = teaching(self.original, recipe, _TEMPERATURE, labelled=self.labelled)
        network = PartRounded(
            copy_model(self.original).module,
            self.graph,
            search.compressed(found, price),
            found,
            rounded,
            search.weights,
        )
        folder = self.folder(f"tune{i + 1}")
        folder.open({"stage": "tune", "recipe": recipe})
        Fit(
            module=network,
            recipe=recipe,
            preprocessing=self.original.record.preprocessing,
            images=self.images,
            loss=taught,
            folder=folder,
            seed=self.seed + i,
            after_step=lambda _: network.hold(),
            options=self.options,
        ).run()
        return network

    def _fitting(
        self,
        search: LevelSearch,
        price: float,
        kept: tuple[NetworkLevels, Outputs],
        most_bytes: int,
    ) -> tuple[float, NetworkLevels]:
        """The lowest price, and its levels, at which the file is as small as it must be."""
        low, high = price * math.exp(-_WIDEST), price * math.exp(_WIDEST)
        for _ in range(_SEARCHES):
            middle = math.sqrt(low * high)
            if self.size(search.start(middle, NARROW, kept)) > most_bytes:
                low = middle
            else:
                high = middle
        found = search.start(high, self.breadth, kept)
        while self.size(found) > most_bytes and high < 10 * price:
            high *= 1.01
            found = search.start(high, self.breadth, kept)
        return high, found

    def _recipe(self, part: float) -> Recipe:
        many = len(self.images) >= MANY_IMAGES
        batch_size, learning_rate = _SETTINGS[many]
        augmentation = self.base_recipe.augmentation
        if self.labelled is None:
            augmentation = dataclasses.replace(augmentation, mix=_MIX)
        steps = min(self.steps, _MOST_EPOCHS[many] * len(self.images) // batch_size)
        return dataclasses.replace(
            self.base_recipe,
            name="rd/tune",
            augmentation=augmentation,
            optimizer="adam",
            schedule="linear",
            batch_size=batch_size,
            max_steps=max(1, round(part * steps)),
            learning_rate=learning_rate,
            warmup_epochs=0.0,
            weight_decay=0.0,
            ema_decay=0.0,
            coarse_share=0.0,
            clip_norm=0.0,
        )


def _more(rounded: Outputs, errors: dict[str, np.ndarray], share: float) -> Outputs:
    """Return a ``share`` of each layer's outputs: those that are rounded, and of the others those
    of the largest errors."""
    result = {}
    for name, outputs in rounded.items():
        first = np.argsort(np.where(outputs, -np.inf, -errors[name]), kind="stable")
        chosen = np.zeros_like(outputs)
        chosen[first[: round(share * len(outputs))]] = True
        result[name] = chosen | outputs
    return result
