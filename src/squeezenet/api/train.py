"""``squeezenet.train``: labelled images to a trained network, in a run folder."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from squeezenet.api.options import (
    require_checkpoint_every,
    require_seed,
    require_workers,
    set_threads,
)
from squeezenet.arch.spec import MAX_INPUT_SIZE
from squeezenet.codec.model_kinds import BEST_WEIGHTS, model_path
from squeezenet.errors import SpecError, SqueezeNetError, UsageError
from squeezenet.extras import require_extra
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.data.sources import TrainingData
    from squeezenet.images.bad import BadImages
    from squeezenet.model.loaded import LoadedModel
    from squeezenet.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training run.

    ``out`` is the run folder, which ``open_model`` and ``compress`` take as a model. ``best_top1``
    and ``last_top1`` are percent of the ``val_images`` held out, after ``best_epoch`` and at the
    end. ``steps`` are optimiser steps, ``skipped`` counts images that could not be read.
    """

    out: Path
    arch: str
    recipe: str
    seed: int
    steps: int
    epochs: float
    best_top1: float
    best_epoch: int
    last_top1: float
    seconds: float
    train_images: int
    val_images: int
    classes: int
    skipped: int

    @property
    def weights(self) -> Path:
        """The file of the best weights."""
        return self.out / BEST_WEIGHTS

    @property
    def report(self) -> Path | None:
        """The folder of curves, confusion matrix, worst mistakes and model card, if it is there."""
        from squeezenet.train.run_folder import REPORT

        folder = self.out / REPORT
        return folder if folder.is_dir() else None


def train(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    arch: str | None = None,
    from_: str | os.PathLike[str] | None = None,
    new_head: bool = False,
    recipe: str | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    learning_rate: float | None = None,
    input_size: int | None = None,
    input_channels: int | None = None,
    batch_norm: bool | None = None,
    flip: bool | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int | None = None,
    checkpoint_every: float = 60.0,
    strict: bool = False,
    workers: int | None = None,
    report: bool = True,
    progress: Progress | None = None,
) -> TrainResult:
    """Train or fine-tune a network; resumes where it was stopped.

    ``data`` is a folder ``<class>/<image>``, a folder with ``train/`` and perhaps ``val/`` of that
    form, or the word ``digits``. ``arch`` names the network to train from scratch, ``from_`` the
    model to fine-tune. The same call goes on with an interrupted run in ``out``, and returns the
    result of a finished one. Options are those of ``squeezenet train``; messages name them as a
    command line does: ``--val-fraction`` is ``val_fraction``.

    Large sets are decoded in ``workers`` processes: a script that does not pass ``workers=0``
    needs the usual ``if __name__ == "__main__"``. ``threads`` sets torch's threads for the whole
    process. ``report`` draws the run's report, where matplotlib is installed. ``progress``, a
    ``squeezenet.progress.Progress``, shows messages and how far the work is; by default nothing
    does.

    Raises:
        MissingExtraError: torch or another package of the extra ``train`` is not installed.
        UsageError: options that do not fit together, or are out of range.
        DataError, ImageError: the data cannot be used.
        CheckpointError: ``out`` holds another run, or cannot be written.
        InterruptedRunError: SIGINT or SIGTERM came; a checkpoint was written.
        DivergenceError: the loss is no longer finite.
    """
    require_extra("train", "training")
    if not 0 < val_fraction < 1:
        raise UsageError(f"--val-fraction {val_fraction}, expected between 0 and 1")
    require_seed(seed)
    require_workers(workers)
    require_checkpoint_every(checkpoint_every)
    network = _Network(
        arch=arch,
        start=_path(from_),
        new_head=new_head,
        input_size=input_size,
        input_channels=input_channels,
        batch_norm=batch_norm,
    )
    network.require()
    if epochs is not None and max_steps is not None:
        raise UsageError("give --epochs or --max-steps, not both")
    from squeezenet.data.sources import open_training_data
    from squeezenet.images.bad import BadImages
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware
    from squeezenet.train.run import train_run

    set_threads(threads)
    progress = progress or SilentProgress()
    bad = BadImages(strict=strict, report=progress.log)
    images = open_training_data(str(data), val_fraction=val_fraction)
    changes = {
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
    }
    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    if epochs is not None:
        given["max_steps"] = None  # of a recipe that counts in steps
    model, chosen = _model_and_recipe(
        network,
        images,
        str(data),
        recipe,
        given,
        flip=flip,
        learning_rate=learning_rate,
        seed=seed,
    )
    run = Path(out)
    result = train_run(
        model,
        images,
        chosen,
        run,
        seed=seed,
        val_fraction=val_fraction,
        new_head=new_head,
        options=FitOptions(
            hardware=choose_hardware(device, precision),
            workers=workers,
            checkpoint_seconds=checkpoint_every,
            bad=bad,
            progress=progress,
        ),
    )
    if report:
        _draw_report(run, images, Path(data).resolve().name, workers, bad, progress)
    known = {field.name for field in dataclasses.fields(TrainResult)}
    measured = {name: value for name, value in result.items() if name in known}
    return TrainResult(out=run, skipped=bad.count, **measured)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """The options that say which network is trained."""

    arch: str | None
    start: Path | None
    new_head: bool
    input_size: int | None
    input_channels: int | None
    batch_norm: bool | None

    def require(self) -> None:
        """Refuse options that do not fit together, or are out of range.

        Raises:
            UsageError: names them.
        """
        if self.input_size is not None and not 1 <= self.input_size <= MAX_INPUT_SIZE:
            raise UsageError(f"--input-size {self.input_size}, expected 1 to {MAX_INPUT_SIZE}")
        if self.input_channels not in (None, 1, 3):
            raise UsageError(
                f"--input-channels {self.input_channels}, expected 1 (grey) or 3 (colour)"
            )
        if self.new_head and self.start is None:
            raise UsageError(
                "--new-head is for --from MODEL; a network from scratch has a new head"
            )
        own = (self.input_size, self.input_channels, self.batch_norm)
        if self.start is not None and own != (None, None, None):
            raise UsageError(
                "--input-size, --input-channels and --batch-norm are of the model that --from names"
            )
        if self.start is None and self.arch is None:
            raise UsageError("give --arch NAME to train from scratch, or --from MODEL to fine-tune")


def _model_and_recipe(
    network: _Network,
    images: TrainingData,
    source: str,
    recipe: str | None,
    given: dict[str, Any],
    *,
    flip: bool | None,
    learning_rate: float | None,
    seed: int,
) -> tuple[LoadedModel, Recipe]:
    """The network with its first weights, and the recipe asked for or the one for the data.

    ``given`` replaces the recipe's fields of those names.
    """
    from squeezenet.train.recipe import recipe_named
    from squeezenet.train.run import (
        NetworkChoice,
        default_recipe,
        new_model,
        start_from,
        suggest_input_size,
    )

    start = choice = None
    if network.start is not None:
        start = start_from(
            network.start, network.arch, images.class_names, new_head=network.new_head, seed=seed
        )
        size = start.record.spec.input_size
    else:
        assert network.arch is not None
        input_size = network.input_size
        if input_size is None:
            input_size = suggest_input_size(network.arch, images.train)
        choice = NetworkChoice(
            arch=network.arch,
            input_size=input_size,
            input_channels=network.input_channels,
            batch_norm=network.batch_norm,
        )
        size = choice.size
    if recipe is not None:
        chosen = recipe_named(recipe)
    elif start is not None:
        chosen = default_recipe(source, input_size=size, start=start.record)
    else:
        chosen = default_recipe(source, input_size=size)
        if "batch_size" not in given:
            chosen = chosen.for_set_of(len(images.train))
    if flip is not None:
        given = given | {"augmentation": dataclasses.replace(chosen.augmentation, flip=flip)}
    try:
        chosen = dataclasses.replace(chosen, **given)
        if learning_rate is not None:
            chosen = chosen.at_rate(learning_rate)
    except SpecError as error:
        raise UsageError(str(error)) from None
    if start is None:
        assert choice is not None
        start = new_model(choice, chosen, images.class_names, seed)
    return start, chosen


def _draw_report(
    run: Path,
    images: TrainingData,
    data: str,
    workers: int | None,
    bad: BadImages,
    progress: Progress,
) -> None:
    """Draw the report, if it is not there; an error costs the pictures, not the training."""
    try:
        require_extra("report", "drawing the report")
        from squeezenet.api.open_model import open_model
        from squeezenet.api.report import draw_report
        from squeezenet.report.write import CARD
        from squeezenet.train.run_folder import REPORT

        report = run / REPORT
        if (report / CARD).is_file():
            return
        draw_report(
            open_model(run),
            images.val,
            report,
            f"held out from {data} and never trained on",
            chose_weights=True,
            workers=workers,
            bad=bad,
            progress=progress,
        )
    except (SqueezeNetError, OSError, ValueError) as error:
        progress.log(f"no report: {error}; squeezenet report draws one later")


def _path(model: str | os.PathLike[str] | None) -> Path | None:
    if model is None:
        return None
    return model_path(model) if isinstance(model, str) else Path(model)
