"""Sessions: which images are held out, and when a job may retrain."""

from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.rate_distortion import prune_first, session
from squeezenet.compress.rate_distortion.curvature import measure_curvature
from squeezenet.compress.rate_distortion.prune_first import (
    MAX_EPOCHS,
    load_density,
    pruning_recipe,
    save_density,
)
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.session import Session
from squeezenet.compress.rate_distortion.settings import (
    EFFORT_PRESETS,
    EffortPreset,
    RateDistortionSettings,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST
from squeezenet.errors import InterruptedRunError
from squeezenet.images.sets import ArrayImages
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel
from tests.compress.conftest import digit_batches, digit_images, job_of, untrained_model


def numbered(count: int) -> ArrayImages:
    """Images that their labels number."""
    return ArrayImages(
        pixels_NHWC=np.zeros((count, 8, 8, 3), np.uint8),
        labels=np.arange(count),
        class_names=tuple(str(i) for i in range(count)),
        title="numbered",
    )


def images_of(count: int, *, labelled: bool = True) -> CompressionImages:
    return CompressionImages(
        retrain=numbered(count), labelled=labelled, measure=numbered(1), measure_labelled=False,
    )  # fmt: skip


def session_of(work: Path, images: CompressionImages, **options: Any) -> Session:
    job = job_of(untrained_model(), work, images=images, **options)
    return Session(job, RateDistortionSettings(effort="high"))


@pytest.mark.parametrize(("count", "held_out"), [(1, 1), (2, 1), (10, 2), (640, 128), (4000, 500)])
def test_images_are_held_out(tmp_path: Path, count: int, held_out: int) -> None:
    found = session_of(tmp_path, images_of(count))
    held = found.held_out.labels.tolist()
    assert len(held) == held_out
    assert held == sorted(held)
    learn = found.learn.labels.tolist()
    assert sorted(held + learn) == (list(range(count)) if count > 1 else [0, 0])
    if count > 100:
        other = session_of(tmp_path, images_of(count), seed=1)
        assert other.held_out.labels.tolist() != held
        assert max(held) > 0.8 * count and min(held) < 0.2 * count


def test_retraining_needs_labels_many_images_and_effort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FULL_TRAINING_IMAGES", 80)
    assert session_of(tmp_path, images_of(100)).retrains
    assert not session_of(tmp_path, images_of(99)).retrains  # 79 without the held out ones
    assert not session_of(tmp_path, images_of(100, labelled=False)).retrains
    monkeypatch.setitem(EFFORT_PRESETS, "high", EffortPreset(width=NARROWEST, correction_images=10))
    assert not session_of(tmp_path, images_of(100)).retrains


def test_curvature_is_cached_and_mirrors_few_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []
    plain = fold_batch_norm(untrained_model())
    measured = measure_curvature(
        plain, build_graph(plain.record.spec), digit_batches(plain, count=8), seed=0
    )

    def measure(model: LoadedModel, graph: Any, batches: Any, **options: Any) -> Any:
        calls.append((len(batches), options["mirrored"]))
        return measured

    monkeypatch.setattr(session, "measure_curvature", measure)
    wanted = EFFORT_PRESETS["high"].curvature_images
    recipe = job_of(untrained_model(), tmp_path).base_recipe
    flips, not_flips = (
        dataclasses.replace(
            recipe, augmentation=dataclasses.replace(recipe.augmentation, flip=flip)
        )
        for flip in (True, False)
    )
    cases = [
        (wanted // 2, flips, (wanted // 2, True)),
        (wanted // 2 + 1, flips, (wanted // 2 + 1, False)),
        (wanted // 2, not_flips, (wanted // 2, False)),
        (2 * wanted, flips, (wanted, False)),
    ]
    for i, (count, base_recipe, found) in enumerate(cases):
        opened = session_of(tmp_path, images_of(count), base_recipe=base_recipe)
        for _ in range(2):  # the second time from the file
            assert opened._curvatures(opened.original, f"c{i}").keys() == measured.keys()
        assert calls == [found]
        calls.clear()


def test_rows_and_sizes(model: LoadedModel, quantized: QuantizedNetwork, tmp_path: Path) -> None:
    found = Session(
        job_of(model, tmp_path, file_bytes=lambda layers: 7 * len(layers)),
        RateDistortionSettings(),
    )
    size = 7 * len(found.graph.convs)
    assert found.file_bytes(quantized) == size
    row = found.row("rounded", quantized)
    assert (row.stage, row.bytes, row.top1) == ("rounded", size, None)
    assert row.density == pytest.approx(100 * quantized.density())
    assert found.compressed(quantized).record.provenance == found.original.record.provenance


def test_a_signal_stops_the_job(tmp_path: Path) -> None:
    found = session_of(tmp_path, images_of(4))
    found.raise_if_stopped(SimpleNamespace(received=None))  # type: ignore[arg-type]
    with pytest.raises(InterruptedRunError, match="run the same command to resume") as caught:
        found.raise_if_stopped(SimpleNamespace(received=signal.SIGTERM))  # type: ignore[arg-type]
    assert str(tmp_path) in str(caught.value)


def test_pruning_recipe_has_whole_epochs_within_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe_for(steps: int, model: LoadedModel) -> Any:
        preset = EffortPreset(width=NARROWEST, correction_images=1, retraining_steps=steps)
        monkeypatch.setitem(EFFORT_PRESETS, "high", preset)
        job = job_of(model, tmp_path, images=digit_images(model, labelled=True))
        return pruning_recipe(Session(job, RateDistortionSettings(effort="high")))

    model = untrained_model()
    base = job_of(model, tmp_path).base_recipe
    per_epoch = (1167 - 233) / base.batch_size
    assert recipe_for(math.ceil(5 * per_epoch), model).epochs == 5
    assert recipe_for(math.floor(5 * per_epoch), model).epochs == 4
    assert recipe_for(1, model).epochs == 1
    assert recipe_for(math.ceil(1000 * per_epoch), model).epochs == MAX_EPOCHS == 40
    recipe = recipe_for(100, model)
    assert (recipe.learning_rate, recipe.weight_decay) == (base.learning_rate, base.weight_decay)
    assert (recipe.optimizer, recipe.warmup_epochs, recipe.clip_norm) == ("sgd", 0.5, 1.0)
    assert (recipe.ema_decay, recipe.coarse_share, recipe.max_steps) == (0.0, 0.0, None)
    plain = recipe_for(100, untrained_model(batch_norm=False))
    assert plain.learning_rate == pytest.approx(0.1 * base.learning_rate)


def test_the_density_is_kept(tmp_path: Path) -> None:
    found = session_of(tmp_path, images_of(4))
    assert load_density(found) is None
    save_density(found, 1 / 3)
    assert load_density(found) == 1 / 3


def test_pruning(model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[Any, ...]] = []

    def run(self: Any, module: Any, recipe: Any, folder: Any, hold: Any) -> None:
        trained.append((len(self.images), self.labelled, recipe.name))

    monkeypatch.setattr(prune_first.Retraining, "run", run)
    job = job_of(model, tmp_path, images=digit_images(model, labelled=True))
    opened = Session(job, RateDistortionSettings(effort="high"))
    base, kept = prune_first.prune_and_retrain(opened, 0.3)
    assert trained == [(len(opened.learn), job.images.retrain, "rd/prune")]
    num_kept = sum(int(mask.sum()) for mask in kept)
    assert num_kept == pytest.approx(0.3 * sum(mask.size for mask in kept), abs=len(kept))
    state = base.module.state_dict()
    for conv, mask in zip(opened.graph.convs, kept, strict=True):
        assert not state[f"{conv.key}.weight"].numpy()[~mask].any()
    assert not base.record.spec.batch_norm
