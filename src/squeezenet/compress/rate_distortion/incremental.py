"""Incremental quantization: round some outputs, train the others, round more (arXiv 1702.03044).

The outputs of the largest errors are rounded first and stay. The others are trained until the
network predicts as the original again. In the end only the errors of the last few outputs are left
uncompensated. The paper goes by weights; here it goes by outputs, since each has a trellis of its
own. On CIFAR-10 at 90,000 bytes the KL divergence goes from 0.071 to 0.031 nats, where scale and
bias correction alone come to 0.040 (docs/experiments).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.arch.graph import Graph
from squeezenet.compress.distill import teacher_loss
from squeezenet.compress.images import FULL_TRAINING_IMAGES
from squeezenet.compress.rate_distortion.arrays import Float64Array
from squeezenet.compress.rate_distortion.level_search import FixedOutputs, LevelSearch
from squeezenet.compress.rate_distortion.partly_rounded import PartlyRoundedNetwork
from squeezenet.compress.rate_distortion.quantized_network import OutputMasks, QuantizedNetwork
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.compress.work_folder import INCREMENTAL, open_stage
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.progress import SilentProgress
from squeezenet.train.fit import Fit, FitOptions
from squeezenet.train.recipe import Recipe

PARTS = ((0.5, 0.4), (0.75, 0.3), (0.9, 0.3))
"""Per part: share of the outputs that are rounded, share of the steps that are then trained."""
BATCH_AND_RATE = {False: (32, 0.005), True: (128, 0.005)}
"""Batch size and Adam's learning rate, in levels per step; True: ``FULL_TRAINING_IMAGES`` or more.
Rate 0.015 is worse: KL 0.049 instead of 0.045 after the first part (docs/experiments)."""
MAX_EPOCHS = {False: 15, True: 30}
"""Keys as above. On 640 photographs, 15 epochs lowered the divergence of others, 30 did not."""
TEMPERATURE = 3.0
"""Of the distillation. The original is certain of images it was trained on; softened predictions
say more."""
MIX = 0.5
"""Share of mixed images without labels: a few hundred are soon memorised, mixtures are many. Where
labels teach none are mixed, which was half a point better on CIFAR-10
(docs/experiments/rate_distortion_cifar10.md)."""
NUM_BISECTIONS, LOG_RANGE = 5, 0.3
"""Of the λ that keeps the size: tries, and the range of ln λ on both sides of the last one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IncrementalQuantization:
    """One training of a quantized network.

    ``labelled``: the whole set that ``images`` come from, if labels teach as well. ``max_steps``:
    of all parts together. ``size(network)``: bytes of its file. ``work``: the work folder, where
    each part keeps its checkpoints.
    """

    original: LoadedModel
    graph: Graph
    images: ImageSet
    labelled: ImageSet | None
    base_recipe: Recipe
    max_steps: int
    width: SearchWidth
    size: Callable[[QuantizedNetwork], int]
    work: Path
    seed: int
    options: FitOptions

    def run(
        self, search: LevelSearch, network: QuantizedNetwork, *, max_bytes: int
    ) -> QuantizedNetwork:
        """Return a trained network of at most ``max_bytes``, if that can be reached.

        ``search``: of the weights that ``network`` was rounded from.

        Raises:
            InterruptedRunError: a signal came; the same call resumes from the checkpoints.
        """
        rounded: OutputMasks = {
            name: np.zeros(len(layer.scales_O), np.bool_) for name, layer in network.levels.items()
        }
        for i, (share, step_share) in enumerate(PARTS):
            rounded = more_outputs(rounded, search.predicted_errors(network), share)
            fixed = FixedOutputs(network=network, outputs=rounded)
            trained = self._train(search, fixed, i, step_share)
            search = search.of_weights(trained.weights())
            network = self._round_within(search, fixed, max_bytes)
        return network

    def _train(
        self, search: LevelSearch, fixed: FixedOutputs, i: int, step_share: float
    ) -> PartlyRoundedNetwork:
        recipe = self.recipe(step_share)
        network = PartlyRoundedNetwork(
            copy_model(self.original).module, self.graph, fixed, search.weights
        )
        folder = self.options.ranks.on_main(
            lambda: open_stage(
                self.work / INCREMENTAL[i],
                {"stage": "incremental", "recipe": recipe},
                self.options.progress or SilentProgress(),
            )
        )
        Fit(
            module=network,
            recipe=recipe,
            preprocessing=self.original.record.preprocessing,
            images=self.images,
            loss=teacher_loss(self.original, recipe, TEMPERATURE, labelled=self.labelled),
            folder=folder,
            seed=self.seed + i,
            after_step=lambda _: network.hold(),
            options=self.options,
        ).run()
        return network

    def _round_within(
        self, search: LevelSearch, fixed: FixedOutputs, max_bytes: int
    ) -> QuantizedNetwork:
        """Round at the smallest λ, near that of ``fixed``, at which the file has ``max_bytes``."""
        last = fixed.network.lambda_
        low, high = last * math.exp(-LOG_RANGE), last * math.exp(LOG_RANGE)
        for _ in range(NUM_BISECTIONS):
            middle = math.sqrt(low * high)
            if self.size(search.round(middle, NARROWEST, fixed)) > max_bytes:
                low = middle
            else:
                high = middle
        found = search.round(high, self.width, fixed)
        while self.size(found) > max_bytes and high < 10 * last:
            high *= 1.01
            found = search.round(high, self.width, fixed)
        return found

    def recipe(self, step_share: float) -> Recipe:
        """Return the recipe of a part that has this share of the steps."""
        many = len(self.images) >= FULL_TRAINING_IMAGES
        batch_size, learning_rate = BATCH_AND_RATE[many]
        augmentation = self.base_recipe.augmentation
        if self.labelled is None:
            augmentation = dataclasses.replace(augmentation, mix=MIX)
        steps = min(self.max_steps, MAX_EPOCHS[many] * len(self.images) // batch_size)
        return dataclasses.replace(
            self.base_recipe,
            name="rd/incremental",
            augmentation=augmentation,
            optimizer="adam",
            schedule="linear",
            batch_size=batch_size,
            max_steps=max(1, round(step_share * steps)),
            learning_rate=learning_rate,
            warmup_epochs=0.0,
            weight_decay=0.0,
            ema_decay=0.0,
            coarse_share=0.0,
            clip_norm=0.0,
        )


def more_outputs(
    rounded: OutputMasks, errors: Mapping[str, Float64Array], share: float
) -> OutputMasks:
    """Return a ``share`` of each layer's outputs: the rounded ones, then those of largest error."""
    result = {}
    for name, outputs in rounded.items():
        order = np.argsort(np.where(outputs, -np.inf, -errors[name]), kind="stable")
        chosen = np.zeros_like(outputs)
        chosen[order[: round(share * len(outputs))]] = True
        result[name] = chosen | outputs
    return result
