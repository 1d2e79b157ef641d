"""One trial: a network is trained into a run folder, and measured.

What is measured are the run's weights as ``squeezenet eval`` sees them: those of the best epoch, on
the data's part ``test``. Data without that part is measured on the images held out from training.
The best epoch was chosen on these, so there the last weights are measured, which nothing was chosen
for.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.data.fingerprint import fingerprint
from squeezenet.data.locations import data_name, locate
from squeezenet.data.sources import (
    TrainingData,
    open_evaluation_data,
    open_training_data,
    with_classes,
    with_fewer_images,
)
from squeezenet.evaluation.predict import evaluate
from squeezenet.explore.plan import TrialPlan
from squeezenet.images.batches import EvalBatches
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.preprocess import from_pixels
from squeezenet.images.sets import ImageSet
from squeezenet.images.walk import log_findings
from squeezenet.model.safetensors_file import load_safetensors
from squeezenet.progress import Progress
from squeezenet.report.study.results import TrialMeasures
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.plan import TrainingPlan, TrainOptions, plan_training, recipe_for
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

_TEST = "test"


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What all trials of a study have in common on this machine.

    ``source``: the DATA argument. ``training``: the shared recipe; a trial adds network and seed.
    ``folder``: where the run folders are made.
    """

    source: str
    training: TrainOptions
    folder: Path
    device: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = 60.0
    limits: ImageLimits = DEFAULT_LIMITS

    def plan(self, trial: TrialPlan, progress: Progress) -> TrainingPlan:
        """Return the training of a trial.

        Raises:
            SqueezeNetError: see ``plan_training``.
        """
        spec = trial.variant.spec
        options = dataclasses.replace(self.training, arch=spec, seed=trial.seed, input_size=None)
        if options.start is None:
            options = dataclasses.replace(options, input_size=spec.input_size[0])
        return plan_training(self.source, options, progress, self.limits)

    def open_data(self, progress: Progress) -> TrainingData:
        """Open the images of the study.

        Raises:
            DataError, UsageError: see the function ``open_data``.
        """
        return open_data(self.source, self.training, progress, self.limits)

    def recipe(self, data: TrainingData, input_size: tuple[int, int]) -> Recipe:
        """Return the shared recipe.

        Raises:
            UsageError, UnknownNameError: see ``recipe_for``.
        """
        return recipe_for(self.source, data, self.training, input_size)

    def run_folder(self, trial: TrialPlan) -> RunFolder:
        """Return the run folder of a trial."""
        return RunFolder(self.folder / trial.name)

    def fit_options(self, progress: Progress) -> FitOptions:
        """Return how trainings run on this machine."""
        return FitOptions(
            hardware=choose_hardware(self.device),
            workers=self.workers,
            checkpoint_seconds=self.checkpoint_seconds,
            progress=progress,
        )


def run_trial(plan: TrialPlan, job: TrialJob, progress: Progress) -> TrialMeasures:
    """Train and measure; a run that was interrupted goes on where it was.

    Raises:
        InterruptedRunError: a signal came; a checkpoint was written.
        SqueezeNetError: the network cannot be trained.
    """
    training, run = job.plan(plan, progress), job.run_folder(plan)
    result = training.run(run.path, job.fit_options(progress))
    has_test = measures_on_test(job.source, job.limits)
    model = load_safetensors(run.best if has_test else run.last)
    images = training.data.val
    if has_test:
        images = open_evaluation_data(job.source, model.record, _TEST, limits=job.limits)
    measured = evaluate(
        from_pixels(model.logits, model.record.preprocessing),
        model.record,
        EvalBatches(images, model.record.preprocessing, workers=job.workers),
        progress=progress,
    )
    counts = count(build_graph(model.record.spec))
    return TrialMeasures(
        top1=measured.top1,
        top5=measured.top5,
        images=measured.images,
        parameters=counts.parameters,
        macs=counts.macs,
        weight_bytes=counts.weight_bytes,
        epochs=result["epochs"],
        seconds=result["seconds"],
    )


def open_data(
    source: str, training: TrainOptions, progress: Progress, limits: ImageLimits
) -> TrainingData:
    """Open the images of a study.

    Raises:
        DataError, UsageError: see ``open_training_data`` and ``with_fewer_images``.
    """
    data = open_training_data(source, val_fraction=training.val_fraction, limits=limits)
    log_findings(data.findings, progress)
    if training.train_images is not None:
        data = with_fewer_images(data, training.train_images)
    return data


def measured_settings(
    source: str, data: TrainingData, limits: ImageLimits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """Return what tells one set of measured images from another.

    Raises:
        DataError: the part ``test`` cannot be used.
    """
    if not measures_on_test(source, limits):
        return {"part": "val"}
    return {"part": _TEST, **fingerprint((_test_images(source, data, limits),)).summary}


def _test_images(source: str, data: TrainingData, limits: ImageLimits) -> ImageSet:
    location = locate(source, limits)
    test = location.labelled(_TEST, allow_empty=True)
    return with_classes(test, data.class_names, location.where(_TEST), location.where("train"))


def measures_on_test(source: str, limits: ImageLimits = DEFAULT_LIMITS) -> bool:
    """Whether the data has a part ``test`` to measure on."""
    return _TEST in locate(source, limits).parts


def measured_on(source: str, data: TrainingData, limits: ImageLimits = DEFAULT_LIMITS) -> str:
    """Return in words what the accuracy of a study is measured on.

    Raises:
        DataError: the part ``test`` cannot be used.
    """
    if measures_on_test(source, limits):
        # Opened here too: a fault of it should not be met after the first training.
        _test_images(source, data, limits)
        return f"{data_name(source)}, its part test/"
    return f"{len(data.val):,} images of {data_name(source)} that are held out from training"
