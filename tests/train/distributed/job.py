"""What ``test_ranks`` lets 1, 2 and 4 processes do: a job of several ranks in one launch.

    torchrun --nproc-per-node N -m tests.train.distributed.job OUT first|second

Rank 0 writes what it found to OUT/N.json. Each part of the job is a function whose result must not
depend on the number of ranks, or says how the ranks agree.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from squeezenet.arch.presets import preset
from squeezenet.data.sources import TrainingData
from squeezenet.errors import InterruptedRunError, SqueezeNetError
from squeezenet.images.bad import BadImages
from squeezenet.images.decode import Pixels
from squeezenet.images.preprocess import from_pixels
from squeezenet.images.sets import ArrayImages
from squeezenet.model.init import initialise
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.network import build_module
from squeezenet.train.distributed.evaluation import (
    batches_of_rank,
    evaluate_on_ranks,
    predict_on_ranks,
)
from squeezenet.train.distributed.gradients import CommHook, GradientOptions
from squeezenet.train.distributed.group import joined_ranks
from squeezenet.train.distributed.ranks import Ranks
from squeezenet.train.fit import FitOptions
from squeezenet.train.recipe import Recipe
from squeezenet.train.run import train_run
from squeezenet.train.start import NetworkChoice, new_model
from squeezenet.train.train_state import TrainState
from tests.conftest import record_of
from tests.train.small import CPU, Log, bright_images, quick

NO_NOISE: dict[str, Any] = {"batch_size": 12, "micro_batch": 4, "batch_norm": False}
"""12 images per step, so that 4 ranks have 3 each: parts smaller than the micro-batch."""
RECIPES = {
    "sgd": quick(max_steps=50, clip_norm=1.0, ema_decay=0.9, **NO_NOISE),
    "muon": quick(max_steps=50, optimizer="muon", matrix_rate=0.02, ema_decay=0.0, **NO_NOISE),
}
STOPPED = quick(epochs=4, ema_decay=0.9, **NO_NOISE)
"""45 images: 15 steps, whose epochs end in the middle of a step."""


def data(num_images: int = 45) -> TrainingData:
    return TrainingData(train=bright_images(num_images, 3), val=bright_images(10, 3, seed=1))


def train(
    ranks: Ranks,
    folder: Path,
    recipe: Recipe,
    *,
    seed: int = 0,
    images: TrainingData | None = None,
    **options: Any,
) -> dict[str, Any]:
    images = images or data()
    choice = NetworkChoice(arch="squeezenet_tiny", batch_norm=recipe.batch_norm)
    model = new_model(choice, recipe, images.class_names, seed)
    for layer in model.module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # every rank draws its own
    fit_options = FitOptions(hardware=CPU, ranks=ranks, **options)
    return train_run(model, images, recipe, folder, seed=seed, options=fit_options)


def curves(ranks: Ranks, out: Path) -> dict[str, Any]:
    for name, recipe in RECIPES.items():
        train(ranks, out / f"{name}-{ranks.size}", recipe)
    return {}


def counts(ranks: Ranks, out: Path) -> dict[str, Any]:
    """Accuracy of one network, with and without an image that cannot be read."""
    spec = preset("squeezenet_tiny")
    module = build_module(spec)
    initialise(module, spec, "he", 0)
    model = LoadedModel(record=record_of(spec), module=module)
    network = from_pixels(model.logits, model.record.preprocessing)
    found = {}
    for name, images in (("all", bright_images(301, 10)), ("broken", Broken.of(301, {5, 290}))):
        bad = BadImages()
        batches = batches_of_rank(
            images, model.record.preprocessing, workers=0, batch_size=64, bad=bad, ranks=ranks
        )
        result = evaluate_on_ranks(network, model.record, batches, ranks)
        predicted = predict_on_ranks(network, model.record, batches, ranks)
        top1 = float(100 * (predicted.logits_NK.argmax(axis=1) == predicted.labels).mean())
        assert abs(top1 - result.top1) < 1e-9 and predicted.skipped == result.skipped
        found[name] = [result.top1, result.top5, result.images, result.skipped]
        found[f"{name} order"] = predicted.indices.tolist()
    return found


class Broken(ArrayImages):
    """Images of which some cannot be read."""

    broken: frozenset[int] = frozenset()

    @classmethod
    def of(cls, num_images: int, broken: set[int]) -> Broken:
        images = bright_images(num_images, 10)
        made = cls(
            pixels_NHWC=images.pixels_NHWC, labels=images.labels, class_names=images.class_names,
            title=images.title,
        )  # fmt: skip
        object.__setattr__(made, "broken", frozenset(broken))
        return made

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        from squeezenet.errors import ImageError

        if index in self.broken:
            raise ImageError(f"{self.name(index)}: is broken")
        return super().pixels(index, min_side)

    def subset(self, indices: Any, *more: Any) -> Broken:
        part = super().subset(indices, *more)
        made = Broken.of(1, {k for k, i in enumerate(indices) if i in self.broken})
        for name in ("pixels_NHWC", "labels", "class_names", "title"):
            object.__setattr__(made, name, getattr(part, name))
        return made


def statistics(ranks: Ranks, out: Path) -> dict[str, Any]:
    """Running statistics are the mean of all ranks'; a rank without images takes part."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), Rows())
    state = TrainState(module, quick(micro_batch=50, ema_decay=0.5), CPU, ranks=ranks)
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    images = torch.rand(ranks.size, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(2, dtype=torch.int64)
    mine = images[ranks.rank]
    state.set_learning_rate_factor(1.0)
    loss = state.compute_gradients(mine, labels, cross_entropy, 2 * ranks.size)
    own = norm.running_mean.clone()
    everyones = torch.stack(ranks.gather(own))
    state.average_statistics()
    averaged = torch.allclose(norm.running_mean, everyones.mean(0))
    differed = ranks.size == 1 or not torch.equal(everyones[0], everyones[-1])
    gradient = module[0].weight.grad
    # By hand: the mean of the losses of the ranks' parts, each normalised on its own.
    alone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), Rows())
    alone.load_state_dict(module.state_dict())
    total = sum(cross_entropy(alone(part), part, labels) for part in images) / ranks.size
    total.backward()
    same = torch.allclose(gradient, alone[0].weight.grad, atol=1e-6)
    # A part of a batch that is too small for all ranks.
    before = norm.running_mean.clone()
    first = ranks.is_main
    loss = state.compute_gradients(mine[: 2 * first], labels[: 2 * first], cross_entropy, 2)
    idle_kept = first or torch.equal(norm.running_mean, before)
    (loss,) = ranks.sum([loss])
    finite = bool(np.isfinite(loss)) and bool(torch.isfinite(module[0].weight.grad).all())
    alike = len({float(g.sum()) for g in ranks.gather(module[0].weight.grad)}) == 1
    checks = [averaged, differed, same, bool(idle_kept), finite, alike]
    return {"statistics": all(all(each) for each in ranks.gather(checks)), "checks": checks}


class Rows(nn.Module):
    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return x_NCHW.flatten(1)


def cross_entropy(logits: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels)


def hooks(ranks: Ranks, out: Path) -> dict[str, Any]:
    """Each hook trains, in many buckets, and leaves equal weights on all ranks; or it is refused in
    one line."""
    found: dict[str, Any] = {}
    names: tuple[CommHook, ...] = ("fp16", "bf16", "int8", "powersgd")
    for hook in names:
        folder = out / f"{hook}-{ranks.size}"
        gradients = GradientOptions(comm_hook=hook, bucket_mb=0.01)
        try:
            result = train(ranks, folder, quick(epochs=6, **NO_NOISE), gradients=gradients)
        except SqueezeNetError as error:
            found[hook] = str(error)
        else:
            found[hook] = result["last_top1"]
    return found


def errors(ranks: Ranks, out: Path) -> dict[str, Any]:
    """Ranks that differ, or of which one fails, all end with an error that says so."""
    last = ranks.rank == ranks.size - 1

    def message(work: Callable[[], object]) -> list[Any]:
        try:
            work()
        except SqueezeNetError as error:
            return ranks.gather([str(error), error.exit_code, error.is_shared])
        return ranks.gather(None)

    strict = {"bad": BadImages(strict=True)}
    # One of the ranks meets it, whichever has it in its part.
    bad_train = TrainingData(train=Broken.of(45, {7}), val=bright_images(10, 10))
    bad_val = TrainingData(train=bright_images(45, 10), val=Broken.of(300, {299}))
    folder = out / f"errors-{ranks.size}"
    found = {
        "seed": message(lambda: train(ranks, folder / "a", quick(), seed=int(last))),
        "rate": message(
            lambda: train(ranks, folder / "a", quick(learning_rate=0.1 if last else 0.2))
        ),
        "data": message(lambda: train(ranks, folder / "a", quick(), images=data(45 + 9 * last))),
        "bad training image": message(
            lambda: train(ranks, folder / "b", quick(), images=bad_train, **strict)
        ),
        "bad validation image": message(
            lambda: train(ranks, folder / "c", quick(), images=bad_val, **strict)
        ),
        "loss": message(lambda: train(ranks, folder / "d", quick(learning_rate=1e9))),
        "file": message(lambda: ranks.together(lambda: fail(last and ranks.size > 1))),
    }
    (folder / "full").mkdir(parents=True, exist_ok=True)
    (folder / "full" / "note.txt").write_text("no run")
    found["folder"] = message(lambda: train(ranks, folder / "full", quick()))
    return found


def fail(really: bool) -> None:
    if really:
        raise FileNotFoundError(2, "No such file or directory", "photos")


def stopped(ranks: Ranks, out: Path) -> dict[str, Any]:
    """One run to its end; another that the last rank gets a signal to stop in."""
    train(ranks, out / f"whole-{ranks.size}", STOPPED)
    calls = {7: lambda: signal.raise_signal(signal.SIGTERM)}
    log = Log(calls if ranks.rank == ranks.size - 1 else None)
    try:
        train(ranks, out / f"stopped-{ranks.size}", STOPPED, progress=log)
    except InterruptedRunError as error:
        found = ranks.gather([str(error).split(";")[0], error.exit_code, error.is_shared])
        return {"stopped": found}
    return {"stopped": "no"}


def saved(ranks: Ranks, out: Path) -> dict[str, Any]:
    """Three runs with batch normalisation: saved at the ends of epochs alone, after every step, and
    stopped in an epoch and gone on with."""
    recipe = quick(epochs=4, ema_decay=0.9, **(NO_NOISE | {"batch_norm": True}))
    train(ranks, out / f"rarely-{ranks.size}", recipe)
    train(ranks, out / f"often-{ranks.size}", recipe, checkpoint_seconds=0.0)
    log = Log({7: lambda: signal.raise_signal(signal.SIGTERM)})
    folder, ended = out / f"twice-{ranks.size}", ""
    try:
        train(ranks, folder, recipe, progress=log)
    except InterruptedRunError as error:
        ended = str(error).split(";")[0]
    train(ranks, folder, recipe)
    return {"ended": ended}


def resumed(ranks: Ranks, out: Path) -> dict[str, Any]:
    """Go on with the run that another number of ranks left: 2 -> 1, 4 -> 2, 1 -> 4."""
    before = {1: 2, 2: 4, 4: 1}[ranks.size]
    result = train(ranks, out / f"stopped-{before}", STOPPED)
    return {"from": before, "ranks": result["ranks"], "steps": result["steps"]}


PARTS = {
    "first": (curves, counts, statistics, hooks, errors, stopped, saved),
    "second": (resumed,),
}


def main() -> None:
    out, parts = Path(sys.argv[1]), PARTS[sys.argv[2]]
    torch.set_num_threads(1)
    with joined_ranks(torch.device("cpu"), 60) as ranks:
        found = {part.__name__: part(ranks, out) for part in parts}
        if ranks.is_main:
            (out / f"{sys.argv[2]}-{ranks.size}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
