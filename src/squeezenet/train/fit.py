"""The training loop: steps, checkpoints, validation, and a clean stop. Knows no task.

``squeezenet train`` and the retraining steps of compression both run it; they differ in the
module, the loss, and what must hold after each step. A run that was killed at any moment and
called again with the same arguments ends with the same weights, bit for bit, on the same
machine with the same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.data.augment import augment_batch, shrink
from squeezenet.data.loader import TrainBatch, iter_train_batches, steps_per_epoch
from squeezenet.errors import DivergenceError, InterruptedRunError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import default_workers
from squeezenet.images.sets import CachedImages, ImageSet, is_small_set
from squeezenet.progress import Progress, SilentProgress, Task
from squeezenet.train.checkpoint import load_latest, save_checkpoint
from squeezenet.train.ema import MovingAverage
from squeezenet.train.hardware import Hardware, choose_hardware, keep_freed_memory
from squeezenet.train.metrics import MetricsLog
from squeezenet.train.optimizers import Optimizers
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder
from squeezenet.train.schedule import rate_share
from squeezenet.train.stop import StopSignals

_LOG_EVERY_STEPS = 20
_SEED_STRIDE = 1_000_003
"""Prime; keeps the seeds of steps and of runs with neighbouring seeds apart."""


class Loss(Protocol):
    """Mean loss of a piece of a batch."""

    def __call__(
        self, logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor: ...


class Validate(Protocol):
    """Judges a module; called at the end of every epoch."""

    def __call__(self, module: nn.Module) -> Evaluation: ...


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What does not change the result: where it runs and how often it saves.

    ``workers`` processes decode images; None starts some, one a core, for files, unless the set is
    so small that this process can keep its pixels. (A script that starts processes needs the usual
    ``if __name__ == "__main__"``.)
    """

    hardware: Hardware | None = None
    workers: int | None = 0
    checkpoint_seconds: float = 60.0
    bad: BadImages | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """``best_top1`` in percent on the validation set, at the end of epoch ``best_epoch``."""

    steps: int
    epochs: float
    best_top1: float
    best_epoch: int
    last_top1: float
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """One training job; ``run`` does it.

    ``module`` ends as the last weights (the moving average, where the recipe has one).
    ``save_weights(path, module)`` writes what ``run_folder`` calls best and last weights; best
    is what ``validate`` finds so.
    ``after_step(module)`` restores what must hold, such as the zeros of pruned weights.
    """

    module: nn.Module
    recipe: Recipe
    preprocessing: Preprocessing
    images: ImageSet
    loss: Loss
    folder: RunFolder
    validate: Validate | None = None
    save_weights: Callable[[Path, nn.Module], None] | None = None
    seed: int = 0
    after_step: Callable[[nn.Module], None] | None = None
    options: FitOptions = FitOptions()

    def run(self) -> FitResult:
        """Train to the end, going on from the folder's newest checkpoint.

        Raises:
            InterruptedRunError: a signal came; a checkpoint was written.
            CheckpointError: one could not be written; the earlier one is kept.
            DivergenceError: the loss is no longer a finite number.
            DataError, ImageError: see ``iter_train_batches``.
        """
        return _Loop(self).run()


class _Loop:
    """The moving parts of a ``Fit``."""

    def __init__(self, job: Fit) -> None:
        recipe = job.recipe
        self.job = job
        self.hardware = job.options.hardware or choose_hardware()
        if self.hardware.device.type == "cpu":
            keep_freed_memory()
        self.progress = job.options.progress or SilentProgress()
        self.steps_an_epoch = steps_per_epoch(len(job.images), recipe.batch_size)
        self.total_steps = recipe.max_steps or recipe.epochs * self.steps_an_epoch
        self.module = job.module.to(self.hardware.device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizers = Optimizers(self.module, recipe)
        self.average = MovingAverage(self.module, recipe.ema_decay) if recipe.ema_decay else None
        self.step = 0
        self.rate = 0.0
        self.best_top1, self.best_epoch, self.last_top1 = -1.0, 0, -1.0
        self.seconds = 0.0

    @property
    def judged(self) -> nn.Module:
        """The module whose weights count."""
        return self.average.module if self.average else self.module

    def run(self) -> FitResult:
        job = self.job
        self._resume()
        epoch_images = self.steps_an_epoch * min(job.recipe.batch_size, len(job.images))
        images_a_step = epoch_images // self.steps_an_epoch
        started = time.monotonic()
        earlier_seconds = self.seconds
        with (
            StopSignals() as stop,
            MetricsLog(job.folder.metrics, job.folder.tensorboard, self.step) as log,
            self.progress.task(
                "train",
                total=self.total_steps * images_a_step,
                unit="img",
                done=self.step * images_a_step,
            ) as task,
        ):
            saved_at = started
            for batch in self._batches():
                loss = self._train_step(batch)
                self.step += 1
                self.seconds = earlier_seconds + time.monotonic() - started
                self._report(task, log, loss, len(batch.labels))
                ends_epoch = self.step % self.steps_an_epoch == 0
                if ends_epoch or self.step == self.total_steps:
                    self._validate(log)
                now = time.monotonic()
                overdue = now - saved_at >= job.options.checkpoint_seconds
                if ends_epoch or overdue or stop.received is not None:
                    self._save()
                    saved_at = now
                if stop.received is not None and self.step < self.total_steps:
                    raise self._interrupted(stop.received)
        job.module.load_state_dict(self.judged.state_dict())
        if job.save_weights is not None:
            job.save_weights(job.folder.last, job.module)
        return FitResult(
            steps=self.step,
            epochs=self.step / self.steps_an_epoch,
            best_top1=self.best_top1,
            best_epoch=self.best_epoch,
            last_top1=self.last_top1,
            seconds=round(self.seconds, 1),
        )

    def _batches(self) -> Iterator[TrainBatch]:
        job = self.job
        images, workers = job.images, job.options.workers
        if not workers and is_small_set(images):
            images, workers = CachedImages(images), 0
        return iter_train_batches(
            images,
            job.preprocessing,
            job.recipe.augmentation,
            batch_size=job.recipe.batch_size,
            seed=job.seed,
            first_step=self.step,
            last_step=self.total_steps,
            workers=default_workers() if workers is None else workers,
            bad=job.options.bad if job.options.bad is not None else BadImages(),
        )

    def _train_step(self, batch: TrainBatch) -> float:
        job, recipe, device = self.job, self.job.recipe, self.hardware.device
        rate_now = rate_share(recipe, self.step, self.total_steps, self.steps_an_epoch)
        self.optimizers.set_share(rate_now)
        self.rate = recipe.learning_rate * rate_now
        seed = (job.seed * _SEED_STRIDE + self.step) % 2**63
        torch.manual_seed(seed)  # dropout
        if not len(batch.labels):
            return math.nan  # all of its images are bad: the step changes nothing
        pixels = batch.pixels_NHWC.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        x_NCHW = augment_batch(pixels, recipe.augmentation, job.preprocessing, seed)
        if self.step < recipe.coarse_share * self.total_steps:
            x_NCHW = shrink(x_NCHW, recipe.coarse_scale)
        self.module.train()
        self.optimizers.zero_grad()
        total = torch.zeros((), device=device)
        for start in range(0, len(labels), recipe.micro_batch):
            piece = slice(start, start + recipe.micro_batch)
            with self.hardware.autocast():
                loss = job.loss(self.module(x_NCHW[piece]), x_NCHW[piece], labels[piece])
            share = len(labels[piece]) / len(labels)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * share
        loss_value = float(total)
        if not math.isfinite(loss_value):
            raise DivergenceError(
                f"the loss is {loss_value} at step {self.step} with learning rate {self.rate:.3g}; "
                "start anew with a lower --learning-rate"
            )
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), recipe.clip_norm)
        self.optimizers.step()
        if job.after_step is not None:
            job.after_step(self.module)
        if self.average is not None:
            self.average.update(self.module, self.step)
        return loss_value

    def _report(self, task: Task, log: MetricsLog, loss: float, num_images: int) -> None:
        epoch = self.step / self.steps_an_epoch
        epochs = self.total_steps / self.steps_an_epoch
        note = f"epoch {epoch:.1f}/{epochs:.3g} loss {loss:.3f}"
        if self.last_top1 >= 0:
            note += f" val {self.last_top1:.1f}%"
        task.advance(num_images, note)
        if not num_images:
            return
        if self.step % _LOG_EVERY_STEPS == 0 or self.step == self.total_steps:
            values = {"epoch": epoch, "loss": loss, "learning_rate": self.rate}
            log.write("train", self.step, values)

    def _validate(self, log: MetricsLog) -> None:
        if self.job.validate is None:
            return
        result = self.job.validate(self.judged)
        epoch = -(-self.step // self.steps_an_epoch)
        log.write("val", self.step, {"epoch": epoch, "top1": result.top1, "top5": result.top5})
        self.last_top1 = result.top1
        # Of equals the latest: on a small validation set many epochs tie, and later ones, at a
        # lower learning rate, generalise better.
        if result.top1 >= self.best_top1:
            self.best_top1, self.best_epoch = result.top1, epoch
            if self.job.save_weights is not None:
                self.job.save_weights(self.job.folder.best, self.judged)

    def _save(self) -> None:
        save_checkpoint(
            self.job.folder.checkpoints,
            self.step,
            {
                "step": self.step,
                "module": self.module.state_dict(),
                "optimizers": self.optimizers.state_dict(),
                "average": self.average.module.state_dict() if self.average else None,
                "best_top1": self.best_top1,
                "best_epoch": self.best_epoch,
                "last_top1": self.last_top1,
                "seconds": self.seconds,
            },
        )

    def _resume(self) -> None:
        state = load_latest(self.job.folder.checkpoints)
        if state is None:
            return
        self.step = state["step"]
        self.module.load_state_dict(state["module"])
        self.optimizers.load_state_dict(state["optimizers"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.best_top1, self.best_epoch = state["best_top1"], state["best_epoch"]
        self.last_top1, self.seconds = state["last_top1"], state["seconds"]
        self.progress.log(f"resumed {self.job.folder.path} at step {self.step}")

    def _interrupted(self, signal_number: int) -> InterruptedRunError:
        return InterruptedRunError(
            f"stopped at step {self.step} of {self.total_steps}; a checkpoint is in "
            f"{self.job.folder.checkpoints}; run the same command to go on",
            signal_number,
        )
