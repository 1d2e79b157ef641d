"""A training that takes a fraction of a second: few images of 8x8 pixels, squeezenet_tiny."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from squeezenet.data.augment import Augmentation
from squeezenet.data.sources import TrainingData
from squeezenet.images.sets import ArrayImages
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import Hardware
from squeezenet.train.recipe import Recipe
from squeezenet.train.run import train_run
from squeezenet.train.start import NetworkChoice, new_model

CPU = Hardware(device=torch.device("cpu"), bfloat16=False)
RECIPE = Recipe(
    name="quick", epochs=4, batch_size=8, micro_batch=8, learning_rate=0.02, warmup_epochs=0.5,
    augmentation=Augmentation(crop="random", padding=1, flip=False, colour=0.1),
)  # fmt: skip


class Task:
    """A task that keeps its notes, and calls back after so many of them."""

    def __init__(self, total: int, done: int, calls: dict[int, Callable[[], None]]) -> None:
        self.total, self.first, self.done = total, done, done
        self.notes: list[str] = []
        self._calls = calls

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, num_items: int, note: str = "") -> None:
        self.done += num_items
        self.notes.append(note)
        self._calls.get(len(self.notes), lambda: None)()


class Log:
    """Progress that keeps the lines and tasks; ``calls`` are made after so many training steps."""

    def __init__(self, calls: dict[int, Callable[[], None]] | None = None) -> None:
        self.lines: list[str] = []
        self.tasks: dict[str, Task] = {}
        self._calls = calls or {}

    def log(self, message: str) -> None:
        self.lines.append(message)

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        calls = self._calls if title == "train" else {}
        self.tasks[title] = Task(total, done, calls)
        return self.tasks[title]


def bright_images(num_images: int, num_classes: int = 2, seed: int = 0) -> ArrayImages:
    """Noise of 8x8 pixels whose brightness is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    noise = rng.integers(0, 40, (num_images, 8, 8, 3))
    pixels = (noise + 200 * labels[:, None, None, None] // num_classes).astype(np.uint8)
    names = tuple(f"c{i}" for i in range(num_classes))
    return ArrayImages(pixels_NHWC=pixels, labels=labels, class_names=names, title=f"noise{seed}")


def small_data(num_images: int = 32) -> TrainingData:
    return TrainingData(train=bright_images(num_images), val=bright_images(10, seed=1))


def quick(**changes: Any) -> Recipe:
    return dataclasses.replace(RECIPE, **changes)


def quick_run(
    folder: Path, recipe: Recipe = RECIPE, *, data: TrainingData | None = None, **options: Any
) -> dict[str, Any]:
    """Train squeezenet_tiny; 4 steps per epoch with the default data and recipe."""
    data = data or small_data()
    model = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, 0)
    fit_options = FitOptions(hardware=CPU, **options)
    return train_run(model, data, recipe, folder, options=fit_options)
