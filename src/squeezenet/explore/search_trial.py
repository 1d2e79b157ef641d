"""One trial of a search: a short training, unless it is hopeless, and its costs measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from squeezenet.compress.estimate import estimated_file_bytes
from squeezenet.compress.images import random_subset
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import StudyError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.explore.costs import measure_costs
from squeezenet.explore.early_stopping import is_hopeless
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.search import Search, predicted_bytes
from squeezenet.explore.trial import TrialJob
from squeezenet.model.safetensors_file import load_safetensors
from squeezenet.progress import Progress
from squeezenet.report.study.results import TrialMeasures, TrialRow
from squeezenet.sealed_files import read_sealed_lines
from squeezenet.train.run_folder import RunFolder

CALIBRATION_IMAGES = 1000
"""For the estimated size; half of what ``compress`` takes by default."""
_WORK = "size-estimate"


def run_search_trial(
    plan: TrialPlan,
    job: TrialJob,
    search: Search,
    rows: Callable[[], Sequence[TrialRow]],
    progress: Progress,
) -> TrialMeasures:
    """Train and measure; ``rows`` are the trials so far, which tell whether this one is hopeless.

    Raises:
        InterruptedRunError: a signal came; a checkpoint was written.
        SqueezeNetError: the network cannot be trained or compressed.
    """
    training, run = job.plan(plan, progress), job.run_folder(plan)
    costs = measure_costs(plan.variant.spec, latency=search.budgets.latency_ms is not None)
    num_epochs = training.recipe.epochs
    options = job.fit_options(progress)
    hopeless = False

    def after_epoch(epoch: int, validation: Evaluation) -> bool:
        nonlocal hopeless
        with contextlib.suppress(StudyError):  # of a database that does not answer
            hopeless = is_hopeless(epoch, num_epochs, validation.top1, costs, rows())
        return hopeless

    result = training.run(run.path, options, after_epoch)
    curve = _curve(run)
    stopped = hopeless or len(curve) < num_epochs
    if stopped:
        file_bytes = round(predicted_bytes(costs, rows()))
    else:
        file_bytes = estimated_file_bytes(
            load_safetensors(run.last),
            random_subset(training.data.train, CALIBRATION_IMAGES, 0),
            RateDistortionSettings(divergence=search.divergence),
            run.path.with_name(f"{run.path.name}.{_WORK}"),
            options=options,
        )
    return TrialMeasures(
        top1=curve[-1][0],
        top5=curve[-1][1],
        images=len(training.data.val),
        parameters=costs.parameters,
        macs=costs.macs,
        weight_bytes=costs.weight_bytes,
        epochs=result["epochs"],
        seconds=result["seconds"],
        file_bytes=file_bytes,
        arena_bytes=costs.arena_bytes,
        latency_ms=costs.latency_ms,
        curve=tuple(top1 for top1, _ in curve),
        stopped=stopped,
    )


def _curve(run: RunFolder) -> list[tuple[float, float]]:
    """Top-1 and top-5 of the validation after each epoch; of a resumed run the last of each."""
    lines, _ = read_sealed_lines(run.metrics)
    found = {
        line["epoch"]: (float(line["top1"]), float(line["top5"]))
        for line in lines
        if line.get("kind") == "val"
    }
    return [found[epoch] for epoch in sorted(found)]
