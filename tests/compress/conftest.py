"""Networks of squeezenet_tiny for the compressor's tests: untrained, half trained, and searched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.presets import preset
from squeezenet.compress.images import CompressionImages, open_compression_images
from squeezenet.compress.job import CompressionJob
from squeezenet.compress.rate_distortion.curvature import measure_curvature
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.trellis_rounding import SearchWidth
from squeezenet.data.digits import load_digits
from squeezenet.data.sources import open_training_data
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.init import initialise
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.network import build_module
from squeezenet.progress import SilentProgress, Task
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import Hardware
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run import train_run
from squeezenet.train.start import NetworkChoice, new_model
from tests.conftest import record_of

OPTIONS = FitOptions(hardware=Hardware(device=torch.device("cpu"), bfloat16=False))


def untrained_model(**options: object) -> LoadedModel:
    """squeezenet_tiny with the digits' classes and random weights."""
    record = record_of(preset("squeezenet_tiny", **options))
    names = tuple(str(digit) for digit in range(10))
    module = build_module(record.spec)
    initialise(module, record.spec, "he", 0)
    return LoadedModel(record=dataclasses.replace(record, class_names=names), module=module)


def digit_batches(model: LoadedModel, part: str = "test", count: int | None = None) -> EvalBatches:
    """Some digits, cropped for the model."""
    images = load_digits()[part]
    if count is not None:
        images = images.subset(list(range(count)))
    return EvalBatches(images, model.record.preprocessing, workers=0)


def digit_images(model: LoadedModel, *, labelled: bool = False, seed: int = 0) -> CompressionImages:
    """What ``--data digits`` or ``--calib digits`` opens."""
    return open_compression_images(
        model.record,
        data="digits" if labelled else None,
        calib=() if labelled else ("digits",),
        val=None,
        seed=seed,
    )


def job_of(model: LoadedModel, work: Path, **options: object) -> CompressionJob:
    """A job that measures nothing."""
    values: dict[str, object] = {
        "model": model,
        "images": digit_images(model),
        "base_recipe": recipe_named("digits"),
        "measure": lambda stage: None,
        "measure_drop": lambda stage: 0.0,
        "file_drop": lambda model: 0.0,
        "file_bytes": lambda layers: 1000,
        "work": work,
        "seed": 0,
        "options": OPTIONS,
    }
    return CompressionJob(**(values | options))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """squeezenet_tiny after four epochs of digits, which it half knows. Not to be changed."""
    data = open_training_data("digits")
    recipe = dataclasses.replace(recipe_named("digits"), epochs=4)
    found = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, 0)
    train_run(found, data, recipe, tmp_path_factory.mktemp("rd") / "run", options=OPTIONS)
    return found


@pytest.fixture(scope="session")
def folded(model: LoadedModel) -> LoadedModel:
    """The half trained network with its batch normalisation folded. Not to be changed."""
    return fold_batch_norm(model)


@pytest.fixture(scope="session")
def graph(folded: LoadedModel) -> Graph:
    return build_graph(folded.record.spec)


@pytest.fixture(scope="session")
def search(folded: LoadedModel, graph: Graph) -> LevelSearch:
    """The search for its levels, by the curvature of 400 digits; each layer by itself."""
    return search_of(folded, graph)


def search_of(folded: LoadedModel, graph: Graph, num_images: int = 0) -> LevelSearch:
    """A search whose layers make up for each other by so many digits."""
    state = folded.module.state_dict()
    weights = {
        c.name: (state[f"{c.key}.weight"].numpy(), state[f"{c.key}.bias"].numpy())
        for c in graph.convs
    }
    batches = digit_batches(folded, "train", 400)
    curvatures = measure_curvature(folded, graph, batches, seed=0)
    preprocessing = folded.record.preprocessing
    images = [
        torch.from_numpy(normalise(batch.pixels_NHWC, preprocessing))
        for batch in digit_batches(folded, "train", num_images)
    ] if num_images else []  # fmt: skip
    return LevelSearch(graph, weights, curvatures, images=lambda: images)


@pytest.fixture(scope="session")
def quantized(search: LevelSearch) -> QuantizedNetwork:
    """The network rounded at the λ of 0.05 nats."""
    return search.round(search.lambda_for(0.05), SearchWidth(survivors=2, scales=3))


def levels_of(shape: tuple[int, int, int], spread: float, seed: int = 0) -> np.ndarray:
    """Levels whose input channels differ in spread, OIK."""
    rng = np.random.default_rng(seed)
    channels = np.exp(rng.normal(0, 0.7, (1, shape[1], 1)))
    return np.rint(rng.laplace(0, spread, shape) * channels).clip(-127, 127).astype(np.int64)


class CountedProgress(SilentProgress):
    """Counts what tasks were announced, and what they advanced by; keeps the lines of the log."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.advanced: list[int] = []
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Task:
        self.totals.append(total)
        self.advanced.append(done)
        progress = self

        class Counted:
            def __enter__(self) -> Task:
                return self

            def __exit__(self, *exc: object) -> None:
                return None

            def advance(self, num_items: int, note: str = "") -> None:
                progress.advanced[-1] += num_items

        return Counted()
