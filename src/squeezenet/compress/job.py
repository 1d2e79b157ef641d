"""One compression job: what every method is given, whatever its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from squeezenet.codec.types import CompressedLayer, CompressedModel
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.report import SearchPoint, TrainingPoint
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.fit import FitOptions
from squeezenet.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressionJob:
    """A model, images, and how to judge what comes of them.

    ``base_recipe``: retraining takes batch size and augmentation from it.
    ``measure(model)``: accuracy of a stage; None where the measured images have no labels.
    ``measure_drop(model)``: what ``max_drop`` limits, in points of top-1; without labels, percent
    of predictions that changed.
    ``file_drop(model)``: the same of a finished file, as clients run it; without activation scales
    it gets them first.
    ``file_bytes(layers)``: size of the finished file with these layers.
    ``work``: folder for checkpoints; an interrupted job resumes from it.
    ``temperature(model)``: what to divide the last convolution by before it is rounded; called
    once, with ``model`` or what retraining made of it.
    ``tried``: the search appends what it tries, and training to ``trained`` what it reached.
    """

    model: LoadedModel
    images: CompressionImages
    base_recipe: Recipe
    measure: Callable[[LoadedModel], Evaluation | None]
    measure_drop: Callable[[LoadedModel], float]
    file_drop: Callable[[CompressedModel], float]
    file_bytes: Callable[[tuple[CompressedLayer, ...]], int]
    work: Path
    seed: int
    options: FitOptions
    temperature: Callable[[LoadedModel], float] = lambda model: 1.0
    tried: list[SearchPoint] = field(default_factory=list)
    trained: list[TrainingPoint] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        """Where to report to; silent by default."""
        return self.options.progress or SilentProgress()
