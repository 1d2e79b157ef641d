"""The training loop: steps, checkpoints, validation, and a clean stop.

``squeezenet train`` and the retraining stages of compression run the same loop. They differ in the
module, the loss, and what must hold after each step. A run that is killed at any moment and started
again with the same arguments ends with the same weights, bit for bit, on the same machine with the
same number of threads.

With several ranks each process runs this loop on its part of every batch. Three short messages per
step keep them together: how many images could be read, the loss, and whether to save or stop.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.data.augment import augment_batch, min_decoded_side, shrink
from squeezenet.data.epochs import Epochs
from squeezenet.data.loader import TrainBatch, iter_train_batches
from squeezenet.errors import CheckpointError, InterruptedRunError, SqueezeNetError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import default_workers
from squeezenet.images.sets import CachedImages, ImageSet, is_small_set
from squeezenet.progress import Progress, SilentProgress, Task
from squeezenet.train.checkpoint import KEPT_IN_TRAINING, load_latest, save_checkpoint
from squeezenet.train.distributed.gradients import GradientOptions
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks
from squeezenet.train.estimate import TimeEstimate
from squeezenet.train.hardware import Hardware, choose_hardware, keep_freed_memory
from squeezenet.train.metrics import MetricsLog
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder
from squeezenet.train.schedule import learning_rate_factor
from squeezenet.train.stop import StopSignals
from squeezenet.train.train_state import TrainState

_STEPS_PER_LOG, _MIN_LOGS = 20, 10
"""Steps between lines of the training loss; fewer in short runs, for at least so many lines."""
_SEED_STRIDE = 1_000_003
"""A prime above the usual number of steps: runs with neighbouring seeds share no step's seed."""
_RANK_STRIDE = 2_147_483_659
"""A prime above the usual product of seed and steps: ranks share no step's seed."""


class Loss(Protocol):
    """Mean loss of a part of a batch."""

    def __call__(
        self, logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor: ...


class Measure(Protocol):
    """Measures a module by names; called at the end of every epoch."""

    def __call__(self, module: nn.Module) -> Mapping[str, float]: ...


class Validate(Protocol):
    """Evaluates a module; called at the end of every epoch."""

    def __call__(self, module: nn.Module) -> Evaluation: ...


class AfterEpoch(Protocol):
    """Is told of the validation of each epoch (from 1); returns whether to end the training."""

    def __call__(self, epoch: int, validation: Evaluation) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options that do not change the result but by rounding: hardware, processes, checkpoints.

    ``workers`` processes decode images. None starts one per core (at most 4) for image files, or
    none if the decoded set is small enough for this process to keep. A script that starts workers
    needs the usual ``if __name__ == "__main__"``.
    ``keep``: how many checkpoints to keep while training; after the end one is kept.
    ``keep_checkpoints``: keep all.
    ``ranks`` share the work; ``gradients`` says how they average theirs, which may be lossy.
    """

    hardware: Hardware | None = None
    workers: int | None = 0
    checkpoint_seconds: float = 60.0
    keep: int = KEPT_IN_TRAINING
    keep_checkpoints: bool = False
    ranks: Ranks = ONE_RANK
    gradients: GradientOptions = field(default_factory=GradientOptions)
    bad: BadImages | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The outcome of a fit.

    ``best_top1`` is the top-1 in percent on the validation set at the end of ``best_epoch``.
    ``ranks`` is the number of processes that trained at the end.
    """

    steps: int
    epochs: float
    best_top1: float
    best_epoch: int
    last_top1: float
    seconds: float
    ranks: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """One training job; ``run`` does it. Every rank has one, and rank 0's alone writes.

    ``module`` ends with the last weights: those of the moving average, if the recipe has one.
    ``validate`` finds the best weights. What ``measure`` returns is logged, and ends the training
    if ``stop_early`` says so; so does ``after_epoch``, which is given each epoch's validation.
    ``save_weights(path, module)`` writes the best and the last ones to their places in ``folder``;
    ``are_whole(path)`` says whether what is there can be read.
    ``after_step(module)`` restores invariants, such as the zeros of pruned weights.
    """

    module: nn.Module
    recipe: Recipe
    preprocessing: Preprocessing
    images: ImageSet
    loss: Loss
    folder: RunFolder
    validate: Validate | None = None
    measure: Measure | None = None
    stop_early: Callable[[Mapping[str, float]], bool] | None = None
    after_epoch: AfterEpoch | None = None
    save_weights: Callable[[Path, nn.Module], None] | None = None
    are_whole: Callable[[Path], bool] = Path.is_file
    seed: int = 0
    after_step: Callable[[nn.Module], None] | None = None
    options: FitOptions = FitOptions()

    def run(self) -> FitResult:
        """Train to the end, starting from the folder's newest checkpoint if there is one.

        Raises:
            InterruptedRunError: a signal came; a checkpoint was written.
            CheckpointError: one could not be written, and the earlier one is kept; or all are
                damaged, or the newest is of another run.
            DivergenceError: the loss is not finite.
            DataError, ImageError: see ``iter_train_batches``.
        """
        return _Loop(self).run()


class _Loop:
    """The moving parts of a ``Fit``."""

    def __init__(self, job: Fit) -> None:
        recipe, options = job.recipe, job.options
        hardware = options.hardware or choose_hardware()
        if hardware.device.type == "cpu":
            keep_freed_memory()
        self.job = job
        self.ranks = options.ranks
        self.device = hardware.device
        self.progress = options.progress or SilentProgress()
        self.epochs = Epochs(num_images=len(job.images), batch_size=recipe.batch_size)
        self.total_steps = recipe.total_steps(len(job.images))
        self.coarse_steps = recipe.coarse_share * self.total_steps
        self.state = TrainState(
            job.module, recipe, hardware, ranks=self.ranks, gradients=options.gradients
        )
        self.best_top1, self.best_epoch, self.last_top1 = -1.0, 0, -1.0
        self.seconds = 0.0
        self.stopped_early = False

    def run(self) -> FitResult:
        job, state = self.job, self.state
        self._resume()
        started = saved_at = time.monotonic()
        earlier_seconds = self.seconds
        estimate = TimeEstimate(
            state.step, self.total_steps, math.ceil(self.coarse_steps), job.recipe.coarse_scale
        )
        with StopSignals() as stop, self._metrics() as log, self._task() as task:
            batches = self._batches()
            while state.step < self.total_steps and not self.stopped_early:
                batch, num_images = self._next_batch(batches)
                loss = self._train_step(batch, num_images)
                state.step += 1
                self.seconds = earlier_seconds + time.monotonic() - started
                self._report(task, log, loss, num_images)
                self._log_estimate(estimate)
                ends_epoch = self.epochs.ends_with(state.step) or state.step == self.total_steps
                if ends_epoch:
                    self.state.average_statistics()
                    self._measure(log)
                    self._validate(log)
                now = time.monotonic()
                overdue = now - saved_at >= job.options.checkpoint_seconds
                to_save, received = self._wishes(overdue, stop.received)
                if ends_epoch or to_save or received is not None:
                    self._save()
                    saved_at = now
                if received is not None and state.step < self.total_steps:
                    raise self._interrupted(received)
        return self._finish()

    def _metrics(self) -> contextlib.AbstractContextManager[MetricsLog | None]:
        """Open rank 0's metrics."""
        if not self.ranks.is_main:
            return contextlib.nullcontext()
        folder = self.job.folder
        return MetricsLog(folder.metrics, folder.tensorboard, self.state.step, self.progress)

    def _task(self) -> Task:
        images_per_step = self.epochs.images_per_step
        return self.progress.task(
            "train",
            total=self.total_steps * images_per_step,
            unit="img",
            done=self.state.step * images_per_step,
        )

    def _batches(self) -> Iterator[TrainBatch]:
        job = self.job
        images, workers = job.images, job.options.workers
        min_side = min_decoded_side(job.recipe.augmentation, job.preprocessing)
        if not workers and is_small_set(images, min_side):
            images, workers = CachedImages(images), 0
        return iter_train_batches(
            images,
            job.preprocessing,
            job.recipe.augmentation,
            batch_size=job.recipe.batch_size,
            seed=job.seed,
            first_step=self.state.step,
            last_step=self.total_steps,
            workers=default_workers() if workers is None else workers,
            bad=job.options.bad if job.options.bad is not None else BadImages(),
            rank=self.ranks.rank,
            num_ranks=self.ranks.size,
        )

    def _next_batch(self, batches: Iterator[TrainBatch]) -> tuple[TrainBatch, int]:
        """Return this rank's part of the next batch, and the number of images in all parts."""
        if self.ranks.size == 1:
            batch = next(batches)
            return batch, len(batch.labels)
        error = None
        try:
            batch = next(batches)
            counts = [len(batch.labels), 0]
        except SqueezeNetError as failed:
            error, counts = failed, [0, 1]
        num_images, num_failed = self.ranks.sum(counts)
        if num_failed:
            self.ranks.fail_together(error)
        return batch, int(num_images)

    def _train_step(self, batch: TrainBatch, num_images: int) -> float:
        """Do one step and return its mean loss over the images of all ranks."""
        job, state, recipe = self.job, self.state, self.job.recipe
        state.set_learning_rate_factor(
            learning_rate_factor(recipe, state.step, self.total_steps, self.epochs.steps_per_epoch)
        )
        seed = (job.seed * _SEED_STRIDE + state.step) % 2**63
        torch.manual_seed((seed + self.ranks.rank * _RANK_STRIDE) % 2**63)  # of dropout
        if not num_images:
            return math.nan  # none of its images can be read: the step changes nothing
        pixels = batch.pixels_NHWC.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        x_NCHW = augment_batch(
            pixels,
            recipe.augmentation,
            job.preprocessing,
            seed,
            positions=batch.positions,
            num_positions=batch.num_positions,
        )
        if state.step < self.coarse_steps:
            x_NCHW = shrink(x_NCHW, recipe.coarse_scale)
        (loss,) = self.ranks.sum([state.compute_gradients(x_NCHW, labels, job.loss, num_images)])
        state.update(loss, job.after_step)
        return loss

    def _wishes(self, overdue: bool, received: int | None) -> tuple[bool, int | None]:
        """Return whether rank 0 wants a checkpoint, and the signal to stop that any rank got.

        Time passes differently for each rank, so rank 0 alone says when to save.
        """
        saves, interrupts, terminations = self.ranks.sum(
            [overdue and self.ranks.is_main, received == signal.SIGINT, received == signal.SIGTERM]
        )
        stop = signal.SIGTERM if terminations else signal.SIGINT if interrupts else None
        return bool(saves), stop

    def _report(self, task: Task, log: MetricsLog | None, loss: float, num_images: int) -> None:
        step = self.state.step
        epoch = self.epochs.num_done(step)
        epochs = self.epochs.num_done(self.total_steps)
        note = f"epoch {epoch:.1f}/{epochs:.3g} loss {loss:.3f}"
        if self.last_top1 >= 0:
            note += f" val {self.last_top1:.1f}%"
        task.advance(num_images, note)
        if not num_images or log is None:
            return
        interval = min(_STEPS_PER_LOG, max(1, self.total_steps // _MIN_LOGS))
        if step % interval == 0 or step == self.total_steps:
            values = {"epoch": epoch, "loss": loss, "learning_rate": self.state.learning_rate}
            log.write("train", step, values)

    def _log_estimate(self, estimate: TimeEstimate) -> None:
        time_left = estimate.after_step(self.state.step, time.monotonic())
        if time_left is not None:
            epochs = self.epochs.num_done(self.total_steps)
            images = f"{len(self.job.images):,} images"
            self.progress.log(f"{epochs:.3g} epochs of {images}: {time_left} left")

    def _measure(self, log: MetricsLog | None) -> None:
        if self.job.measure is None:
            return
        step = self.state.step
        values = dict(self.job.measure(self.state.evaluated))
        shown = ", ".join(f"{name} {value:,.6g}" for name, value in values.items())
        self.progress.log(f"epoch {self.epochs.number(step)}: {shown}")
        if log is not None:
            log.write("measured", step, {"seconds": round(self.seconds, 1), **values})
        if self.job.stop_early is not None:
            self.stopped_early = self.ranks.broadcast(self.job.stop_early(values))

    def _validate(self, log: MetricsLog | None) -> None:
        if self.job.validate is None:
            return
        step, module = self.state.step, self.state.evaluated
        result = self.job.validate(module)
        epoch = self.epochs.number(step)
        if log is not None:
            log.write("val", step, {"epoch": epoch, "top1": result.top1, "top5": result.top5})
        self.last_top1 = result.top1
        # The latest of equals: on a small validation set many epochs tie, and later ones, at a
        # lower learning rate, generalise better.
        if result.top1 >= self.best_top1:
            self.best_top1, self.best_epoch = result.top1, epoch
            self._save_weights(self.job.folder.best, module)
        if self.job.after_epoch is not None:
            self.stopped_early |= self.ranks.broadcast(self.job.after_epoch(epoch, result))

    def _save_weights(self, path: Path, module: nn.Module) -> None:
        save = self.job.save_weights
        if save is not None:
            self.ranks.on_main(lambda: save(path, module))

    def _save(self) -> None:
        statistics = self.state.gather_statistics()
        self.ranks.on_main(lambda: self._save_checkpoint(statistics))

    def _save_checkpoint(self, statistics: list[list[torch.Tensor]]) -> None:
        options = self.job.options
        state: dict[str, Any] = self.state.state_dict(statistics) | {
            "best_top1": self.best_top1,
            "best_epoch": self.best_epoch,
            "last_top1": self.last_top1,
            "seconds": self.seconds,
            "stopped_early": self.stopped_early,
            "run": self.job.folder.identity,
        }
        save_checkpoint(
            self.job.folder.checkpoints,
            self.state.step,
            state,
            keep=None if options.keep_checkpoints else options.keep,
        )

    def _resume(self) -> None:
        state = self.ranks.on_main(self._load_checkpoint)
        if state is None:
            return
        folder = self.job.folder
        try:
            self.state.load_state_dict(state)
            self.best_top1, self.best_epoch = float(state["best_top1"]), int(state["best_epoch"])
            self.last_top1, self.seconds = float(state["last_top1"]), float(state["seconds"])
            # Checkpoints of earlier versions do not have it.
            self.stopped_early = bool(state.get("stopped_early", False))
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError):
            raise CheckpointError(
                f"{folder.checkpoints}: the newest checkpoint is not of this network and "
                "optimiser; remove it"
            ) from None
        self.progress.log(f"resumed {folder.path} at step {self.state.step}")
        self._replace_lost_best_weights()

    def _load_checkpoint(self) -> dict[str, Any] | None:
        folder = self.job.folder
        state = load_latest(folder.checkpoints, self.progress)
        if state is None:
            if folder.metrics.is_file():
                self.progress.log(f"{folder.path}: has no checkpoint, so it starts at step 0")
            return None
        if state.get("run") != folder.identity:
            raise CheckpointError(
                f"{folder.checkpoints}: the newest checkpoint is of a run with other settings; "
                "remove it"
            )
        return state

    def _replace_lost_best_weights(self) -> None:
        """Where the best weights are damaged or gone, choose those of this or a later epoch."""
        job, step = self.job, self.state.step
        if job.save_weights is None or not self.best_epoch:
            return
        if self.ranks.on_main(lambda: job.are_whole(job.folder.best)):
            return
        self.progress.log(
            f"{job.folder.best}: is damaged or missing; the best epoch is chosen anew, from step "
            f"{step} on"
        )
        self.best_top1, self.best_epoch = -1.0, 0
        if self.epochs.ends_with(step) or step == self.total_steps:
            self.best_top1, self.best_epoch = self.last_top1, self.epochs.number(step)
            self._save_weights(job.folder.best, self.state.evaluated)

    def _finish(self) -> FitResult:
        job = self.job
        job.module.load_state_dict(self.state.evaluated.state_dict())
        self._save_weights(job.folder.last, job.module)
        return FitResult(
            steps=self.state.step,
            epochs=self.epochs.num_done(self.state.step),
            best_top1=self.best_top1,
            best_epoch=self.best_epoch,
            last_top1=self.last_top1,
            seconds=round(self.seconds, 1),
            ranks=self.ranks.size,
        )

    def _interrupted(self, signal_number: int) -> InterruptedRunError:
        error = InterruptedRunError(
            f"stopped at step {self.state.step} of {self.total_steps}; a checkpoint is in "
            f"{self.job.folder.checkpoints}; run the same command to go on",
            signal_number,
        )
        error.is_shared = True
        return error
