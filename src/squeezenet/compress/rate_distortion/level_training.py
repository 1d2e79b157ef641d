"""Train a rounded network until it predicts as the original, at the size that it has.

The levels stay rounded all the time (``straight_through``), the original's predictions teach, and
the price of a bit follows the file: it rises while the file is larger than it may be, and falls
while it is smaller. What is trained is the file itself, so nothing is lost by rounding at the end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.straight_through import StraightThroughNetwork
from squeezenet.compress.report import TrainingPoint
from squeezenet.compress.work_folder import LEVELS, open_stage
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.progress import SilentProgress
from squeezenet.sealed_files import read_sealed_lines
from squeezenet.train.fit import Fit, FitOptions
from squeezenet.train.losses import TEMPERATURE, teacher_loss
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

BATCH_SIZE = 32
LEARNING_RATE = 0.01
"""Of Adam, in levels per step at most. On CIFAR-10 at 80,000 bytes 0.004 changes no level in 200
steps, and 0.02 takes the divergence from 0.054 to 0.038 in 800. On ImageNet's v1.1 at 243,860 bytes
0.02 is too much (docs/experiments/rate_distortion_cifar10.md). This is in between, and not
measured to its end."""
WARMUP_STEPS = 50
"""In which the rate rises: Adam's first steps are as long as any, whatever the gradients. No other
number is on record."""
MAX_EPOCHS = {False: 15, True: 30}
"""True: ``MANY_IMAGES`` or more. On 640 photographs 30 epochs were no better than 15, with another
way of training (docs/experiments); the other two numbers are not measured."""
MANY_IMAGES = 2000
MIX = 0.5
"""Share of mixed images without labels: some thousand pictures are soon known, mixtures are many.
"""
SIZED_EVERY = 24
"""Steps from one look at the file's size to the next."""
GAIN, MAX_CHANGE = 10.0, 0.1
"""Of ln price, per share of the bytes that the file is too large, and at most at once."""
MARGIN = 0.0005
"""Share of the bytes to stay below the limit while training."""
LAST_RISE, MAX_RISES = 1.01, 500
"""Factors on the price after the last step, until the file fits."""
MAX_GROWTH = 1.5
"""Of the divergence: an epoch beyond it ends the training. It may grow at first, since a level that
changes has no error feedback. With 9,000 pictures of CIFAR-10 it grew by less than a tenth; on v1.1
with 6,692 it nearly doubled in six epochs (docs/experiments/sequential_rounding.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelTraining:
    """One training of a rounded network.

    ``labelled``: the whole set that ``images`` come from, if labels teach as well. ``max_steps``:
    fewer where images are few.
    ``size(network)``: bytes of its file, at most ``max_bytes``. ``divergence(network)``: from the
    original, in nats; measured after each epoch. ``work``: the work folder, which keeps the
    checkpoints.
    """

    original: LoadedModel
    graph: Graph
    images: ImageSet
    labelled: ImageSet | None
    base_recipe: Recipe
    max_steps: int
    size: Callable[[QuantizedNetwork], int]
    max_bytes: int
    divergence: Callable[[QuantizedNetwork], float]
    work: Path
    seed: int
    options: FitOptions

    def run(self, start: QuantizedNetwork) -> tuple[QuantizedNetwork, list[TrainingPoint]]:
        """Return ``start`` after training, and the network after each epoch.

        Its file has at most ``max_bytes`` if that can be. ``start`` itself comes
        back where the divergence grew beyond ``MAX_GROWTH``.

        Raises:
            InterruptedRunError: a signal came; the same call resumes from the checkpoints.
        """
        network = StraightThroughNetwork(copy_model(self.original).module, self.graph, start)
        recipe = self.recipe()
        progress = self.options.progress or SilentProgress()
        folder = self.options.ranks.on_main(
            lambda: open_stage(
                self.work / LEVELS,
                {"stage": "levels", "recipe": recipe},
                progress,
            )
        )
        limit = MAX_GROWTH * self.divergence(start)

        def stop_early(measured: Mapping[str, float]) -> bool:
            return measured["divergence"] > limit

        fitted = Fit(
            module=network,
            recipe=recipe,
            preprocessing=self.original.record.preprocessing,
            images=self.images,
            loss=teacher_loss(self.original, recipe, TEMPERATURE, labelled=self.labelled),
            folder=folder,
            seed=self.seed,
            after_step=self._after_step,
            measure=self._measure,
            stop_early=stop_early,
            options=self.options,
        ).run()
        points = _points(folder)
        assert recipe.max_steps is not None
        if fitted.steps < recipe.max_steps:
            progress.log(
                f"after {fitted.steps:,} steps the divergence is over {limit:.4f} nats: training "
                "ends, and the levels stay as they were before it"
            )
            return start, points
        network.cpu()
        for _ in range(MAX_RISES):
            if self._file_bytes(network) <= self.max_bytes:
                break
            network.price *= LAST_RISE
            network.round()
        return network.network(), points

    def _measure(self, module: nn.Module) -> dict[str, float]:
        assert isinstance(module, StraightThroughNetwork)
        network = module.network()
        return {"bytes": self._file_bytes(module), "divergence": self.divergence(network)}

    def _after_step(self, module: nn.Module) -> None:
        assert isinstance(module, StraightThroughNetwork)
        module.after_step()
        if int(module.num_steps) % SIZED_EVERY == 0:
            excess = self._file_bytes(module) / (self.max_bytes * (1 - MARGIN)) - 1
            module.price *= math.exp(max(-MAX_CHANGE, min(MAX_CHANGE, GAIN * excess)))

    def _file_bytes(self, module: StraightThroughNetwork) -> int:
        return self.options.ranks.on_main(lambda: self.size(module.network()))

    def recipe(self) -> Recipe:
        """Return the recipe: the base's augmentation, and settings of its own."""
        augmentation = self.base_recipe.augmentation
        if self.labelled is None:
            augmentation = dataclasses.replace(augmentation, mix=MIX)
        num_images = len(self.images)
        epochs = MAX_EPOCHS[num_images >= MANY_IMAGES]
        return dataclasses.replace(
            self.base_recipe,
            name="rd/levels",
            augmentation=augmentation,
            optimizer="adam",
            schedule="linear",
            batch_size=BATCH_SIZE,
            max_steps=max(1, min(self.max_steps, epochs * num_images // BATCH_SIZE)),
            learning_rate=LEARNING_RATE,
            warmup_epochs=WARMUP_STEPS * BATCH_SIZE / num_images,
            weight_decay=0.0,
            ema_decay=0.0,
            coarse_share=0.0,
            clip_norm=0.0,
        )


def _points(folder: RunFolder) -> list[TrainingPoint]:
    """Return what was measured after each epoch, before an interruption too."""
    if not folder.metrics.is_file():
        return []
    lines, _ = read_sealed_lines(folder.metrics)
    return [
        TrainingPoint(
            step=line["step"],
            seconds=line["seconds"],
            bytes=int(line["bytes"]),
            divergence=line["divergence"],
        )
        for line in lines
        if line["kind"] == "measured"
    ]
