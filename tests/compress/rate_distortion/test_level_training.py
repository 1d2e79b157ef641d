"""Training of a rounded network: its recipe, the size of its file, and what is won."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import Graph
from squeezenet.codec.container import encode
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.rate_distortion import level_training
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.level_training import MIX, LevelTraining
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.straight_through import StraightThroughNetwork
from squeezenet.compress.rate_distortion.trellis_rounding import SearchWidth
from squeezenet.data.digits import load_digits
from squeezenet.evaluation.metrics import compare
from squeezenet.evaluation.predict import LabelledLogits, predict
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import OPTIONS, CountedProgress, digit_batches


@pytest.fixture
def size(folded: LoadedModel) -> Callable[[QuantizedNetwork], int]:
    def file_bytes(network: QuantizedNetwork) -> int:
        return len(encode(CompressedModel(record=folded.record, layers=network.layers())))

    return file_bytes


def training_of(folded: LoadedModel, graph: Graph, work: Path, **options: Any) -> LevelTraining:
    images = load_digits()["train"]
    values: dict[str, Any] = {
        "original": folded,
        "graph": graph,
        "images": images,
        "labelled": None,
        "base_recipe": recipe_named("digits"),
        "max_steps": 40,
        "size": lambda network: 1000,
        "max_bytes": 1000,
        "divergence": lambda network: 0.25,
        "work": work,
        "seed": 0,
        "options": OPTIONS,
    }
    return LevelTraining(**(values | options))


def test_recipe(folded: LoadedModel, graph: Graph, tmp_path: Path) -> None:
    training = training_of(folded, graph, tmp_path)
    recipe = training.recipe()
    assert (recipe.batch_size, recipe.learning_rate, recipe.max_steps) == (32, 0.01, 40)
    assert (recipe.optimizer, recipe.schedule, recipe.augmentation.mix) == ("adam", "linear", MIX)
    for name in ("weight_decay", "ema_decay", "coarse_share", "clip_norm"):
        assert getattr(recipe, name) == 0
    # 15 epochs of 1,167 images in batches of 32 at most.
    assert dataclasses.replace(training, max_steps=100_000).recipe().max_steps == 547
    many = training.images.subset([0] * level_training.MANY_IMAGES)
    assert dataclasses.replace(training, max_steps=9000, images=many).recipe().max_steps == 1875
    one = training.images.subset([0])
    assert dataclasses.replace(training, images=one).recipe().max_steps == 1
    labelled = dataclasses.replace(training, labelled=training.images)
    assert labelled.recipe().augmentation == training.base_recipe.augmentation


def test_predictions_come_nearer_at_the_same_size(
    folded: LoadedModel,
    graph: Graph,
    search: LevelSearch,
    size: Callable[[QuantizedNetwork], int],
    tmp_path: Path,
) -> None:
    # Coarse, so that there is much to win back.
    quantized = search.round(search.lambda_for(0.3), SearchWidth(survivors=2, scales=3))
    max_bytes = size(quantized)
    training = training_of(folded, graph, tmp_path, max_steps=200, size=size, max_bytes=max_bytes)
    found, points = training.run(quantized)
    # Epochs of 1,167 images in batches of 32 end with steps 37, 73, 110, ...
    assert [point.step for point in points][:2] == [37, 73] and points[-1].step == 200
    assert all(point.divergence == 0.25 for point in points)
    assert points[-1].bytes == pytest.approx(max_bytes, rel=0.03)
    assert np.diff([point.seconds for point in points]).min() > 0
    assert 0.97 * max_bytes < size(found) <= max_bytes
    assert found.lambda_ == quantized.lambda_
    changed = [
        (found.levels[name].codes_OP != x.codes_OP).any() for name, x in quantized.levels.items()
    ]
    assert any(changed)

    def predictions(model: LoadedModel) -> LabelledLogits:
        network = from_pixels(model.logits, model.record.preprocessing)
        return predict(network, folded.record, digit_batches(folded, "test"))

    wanted = predictions(folded)
    before, after = (
        compare(
            predictions(
                from_compressed(CompressedModel(record=folded.record, layers=network.layers()))
            ),
            wanted,
        ).kl
        for network in (quantized, found)
    )
    assert after < 0.75 * before


def test_growing_divergence_ends_the_training(
    folded: LoadedModel, graph: Graph, quantized: QuantizedNetwork, tmp_path: Path
) -> None:
    # The start and two epochs of five; then the start again, where the same call resumes.
    found = iter((0.2, 0.29, 0.31, 0.2))
    progress = CountedProgress()
    training = training_of(
        folded, graph, tmp_path,
        max_steps=180,
        divergence=lambda network: next(found),
        options=dataclasses.replace(OPTIONS, progress=progress),
    )  # fmt: skip
    network, points = training.run(quantized)
    assert network is quantized
    assert [point.divergence for point in points] == [0.29, 0.31]
    assert "after 73 steps the divergence is over 0.3000 nats" in progress.lines[-1]
    again, same_points = training.run(quantized)
    assert again is quantized and same_points == points


def test_the_price_follows_the_size(
    folded: LoadedModel, graph: Graph, quantized: QuantizedNetwork, tmp_path: Path
) -> None:
    network = StraightThroughNetwork(folded.module, graph, quantized)
    for file_bytes, change in ((1000, 1.005), (1005, 1.0565), (2000, 1.1052), (500, 0.9048)):
        training = training_of(
            folded, graph, tmp_path, size=lambda found, size=file_bytes: size, max_bytes=1000
        )
        before = float(network.price)
        network.num_steps.fill_(level_training.SIZED_EVERY - 1)
        training._after_step(network)
        assert float(network.price) / before == pytest.approx(change, rel=1e-3)


def test_a_size_out_of_reach_ends_the_training(
    folded: LoadedModel,
    graph: Graph,
    quantized: QuantizedNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(level_training, "MAX_RISES", 5)
    rounds: list[float] = []
    once = StraightThroughNetwork.round

    def counted(self: StraightThroughNetwork) -> None:
        rounds.append(float(self.price))
        once(self)

    monkeypatch.setattr(StraightThroughNetwork, "round", counted)
    training = training_of(folded, graph, tmp_path, max_steps=1, max_bytes=10)
    training.run(quantized)
    assert len(rounds) == 5
    np.testing.assert_allclose(np.diff(np.log(rounds)), np.log(1.01))


def test_the_original_is_not_changed(
    folded: LoadedModel, graph: Graph, quantized: QuantizedNetwork, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in folded.module.state_dict().items()}
    training_of(folded, graph, tmp_path, max_steps=3).run(quantized)
    for name, value in folded.module.state_dict().items():
        assert torch.equal(value, before[name])
