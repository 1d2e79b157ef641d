"""Incremental quantization: which outputs are rounded, for how long it trains, at which λ."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from squeezenet.arch.graph import Graph
from squeezenet.compress.rate_distortion import incremental
from squeezenet.compress.rate_distortion.incremental import (
    LOG_RANGE,
    MIX,
    PARTS,
    IncrementalQuantization,
    more_outputs,
)
from squeezenet.compress.rate_distortion.level_search import FixedOutputs, LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.data.digits import load_digits
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import OPTIONS

WIDE = SearchWidth(survivors=2, scales=3)


def job_of(folded: LoadedModel, graph: Graph, work: Path, **options: Any) -> Any:
    images = load_digits()["train"].subset(list(range(320)))
    values: dict[str, Any] = {
        "original": folded,
        "graph": graph,
        "images": images,
        "labelled": None,
        "base_recipe": recipe_named("digits"),
        "max_steps": 100,
        "width": NARROWEST,
        "size": lambda network: 1000,
        "work": work,
        "seed": 0,
        "options": OPTIONS,
    }
    return IncrementalQuantization(**(values | options))


def test_the_outputs_of_largest_error_are_rounded_first() -> None:
    errors = {"a": np.array([1.0, 9.0, 3.0, 3.0]), "b": np.array([0.2, 0.1])}
    none = {"a": np.zeros(4, np.bool_), "b": np.zeros(2, np.bool_)}
    half = more_outputs(none, errors, 0.5)
    np.testing.assert_array_equal(half["a"], [False, True, True, False])
    np.testing.assert_array_equal(half["b"], [True, False])
    # Rounded outputs stay rounded, whatever their error now.
    more = more_outputs(half, {"a": np.array([5.0, 0.0, 0.0, 9.0]), "b": errors["b"]}, 0.75)
    np.testing.assert_array_equal(more["a"], [False, True, True, True])
    fewer = more_outputs(half, errors, 0.0)
    np.testing.assert_array_equal(fewer["a"], half["a"])


def test_recipe(folded: LoadedModel, graph: Graph, tmp_path: Path) -> None:
    job = job_of(folded, graph, tmp_path)
    recipe = job.recipe(0.3)
    assert (recipe.batch_size, recipe.learning_rate, recipe.max_steps) == (32, 0.005, 30)
    assert (recipe.optimizer, recipe.schedule, recipe.augmentation.mix) == ("adam", "linear", MIX)
    for name in ("warmup_epochs", "weight_decay", "ema_decay", "coarse_share", "clip_norm"):
        assert getattr(recipe, name) == 0
    # 15 epochs of 320 images in batches of 32 at most.
    long = dataclasses.replace(job, max_steps=100_000)
    assert long.recipe(1.0).max_steps == 150
    assert long.recipe(1e-9).max_steps == 1
    labelled = dataclasses.replace(job, labelled=job.images)
    assert labelled.recipe(1.0).augmentation == job.base_recipe.augmentation


def test_many_images_are_trained_on_as_such(
    folded: LoadedModel, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incremental, "FULL_TRAINING_IMAGES", 320)
    job = job_of(folded, graph, tmp_path, max_steps=100_000)
    recipe = job.recipe(1.0)
    assert (recipe.batch_size, recipe.learning_rate, recipe.max_steps) == (128, 0.005, 75)


@dataclasses.dataclass
class Search:
    """A fake search. Files have 1000 / λ bytes, ``more`` times that where rounded widely."""

    more: float = 1.0
    widths: list[SearchWidth] = dataclasses.field(default_factory=list)

    def round(self, lambda_: float, width: SearchWidth, fixed: FixedOutputs) -> Any:
        self.widths.append(width)
        bigger = self.more if width == WIDE else 1.0
        return QuantizedNetwork(levels={}, lambda_=lambda_ / bigger)


@pytest.mark.parametrize("target", [800, 1000, 1250])
@pytest.mark.parametrize("more", [0.99, 1.0, 1.05])
def test_the_size_is_kept(
    folded: LoadedModel, graph: Graph, tmp_path: Path, target: int, more: float
) -> None:
    search = Search(more=more)
    job = job_of(folded, graph, tmp_path, size=lambda network: 1000 / network.lambda_, width=WIDE)
    fixed = FixedOutputs(network=QuantizedNetwork(levels={}, lambda_=1.0), outputs={})
    found = job._round_within(cast(LevelSearch, search), fixed, target)
    size = 1000 / found.lambda_
    assert 0.97 * target < size <= target
    assert search.widths[:6] == [NARROWEST] * 5 + [WIDE]
    assert set(search.widths[6:]) <= {WIDE}


def test_a_size_out_of_reach_ends_the_search(
    folded: LoadedModel, graph: Graph, tmp_path: Path
) -> None:
    search = Search()
    job = job_of(folded, graph, tmp_path, size=lambda network: 10, width=WIDE)
    fixed = FixedOutputs(network=QuantizedNetwork(levels={}, lambda_=1.0), outputs={})
    found = job._round_within(cast(LevelSearch, search), fixed, 5)
    assert 10 <= found.lambda_ < 10.2
    assert 5 + 1 + 200 < len(search.widths) < 5 + 1 + 240
    # And one that everything meets is given the smallest λ.
    found = job._round_within(cast(LevelSearch, Search()), fixed, 50)
    assert found.lambda_ == pytest.approx(math.exp(LOG_RANGE / 16 - LOG_RANGE), rel=1e-6)


def test_parts(
    folded: LoadedModel,
    graph: Graph,
    search: LevelSearch,
    quantized: QuantizedNetwork,
    tmp_path: Path,
) -> None:
    """Each part rounds more outputs, trains its share of the steps, and keeps the rounded ones."""
    shares: list[float] = []
    networks: list[QuantizedNetwork] = []

    def size(network: QuantizedNetwork) -> int:
        networks.append(network)
        return 1000

    job = job_of(folded, graph, tmp_path, max_steps=10, size=size)
    train, seeds = IncrementalQuantization._train, []

    def recorded(self: Any, search: Any, fixed: FixedOutputs, i: int, share: float) -> Any:
        counts = [outputs.mean() for outputs in fixed.outputs.values()]
        shares.append(float(np.mean(counts)))
        seeds.append((i, share))
        return train(self, search, fixed, i, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IncrementalQuantization, "_train", recorded)
        found = job.run(search, quantized, max_bytes=1000)
    np.testing.assert_allclose(shares, [share for share, _ in PARTS], atol=0.02)
    assert seeds == [(i, step_share) for i, (_, step_share) in enumerate(PARTS)]
    assert sum(step_share for _, step_share in PARTS) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "incremental1", "incremental2", "incremental3",
    ]  # fmt: skip
    changed = [
        (found.levels[name].codes_OP != x.codes_OP).any() for name, x in quantized.levels.items()
    ]
    assert any(changed)
