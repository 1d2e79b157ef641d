"""Whole runs of method rd: their stages, their targets, and that they resume to the same bytes."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.client import Classifier
from squeezenet.codec import container
from squeezenet.codec.types import LevelWeights
from squeezenet.compress import retrain
from squeezenet.compress.file_record import UNKNOWN_BYTES
from squeezenet.compress.rate_distortion import job as rd
from squeezenet.compress.rate_distortion import session
from squeezenet.compress.rate_distortion.session import Session
from squeezenet.compress.rate_distortion.settings import (
    EFFORT_PRESETS,
    EffortPreset,
    RateDistortionSettings,
)
from squeezenet.compress.rate_distortion.straight_through import StraightThroughNetwork
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.compress.report import CompressionReport, TrainingPoint
from squeezenet.compress.run import compress_model
from squeezenet.errors import InterruptedRunError
from squeezenet.evaluation.calibration import (
    at_temperature,
    calibration_error,
    recorded_temperature,
)
from squeezenet.evaluation.metrics import compare, score
from squeezenet.evaluation.predict import predict
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import OPTIONS, digit_images, job_of


def brief(**options: Any) -> EffortPreset:
    """Little work of every kind."""
    values: dict[str, Any] = {
        "width": NARROWEST, "curvature_images": 128, "correction_images": 100,
    }  # fmt: skip
    return EffortPreset(**(values | options))


def run(
    model: LoadedModel, out: Path, *, labelled: bool = False, **options: Any
) -> CompressionReport:
    settings = RateDistortionSettings(**{"effort": "low", **options})
    return compress_model(
        model, digit_images(model, labelled=labelled), out, settings, recipe_named("digits"),
        options=OPTIONS, max_drop=settings.max_drop,
    )  # fmt: skip


@pytest.mark.parametrize("labelled", [False, True])
def test_whole_run(
    model: LoadedModel, tmp_path: Path, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.sqz"
    preset = brief(width=SearchWidth(survivors=2, scales=3), correction_passes=2, training_steps=20)
    monkeypatch.setitem(EFFORT_PRESETS, "high", preset)
    report = run(model, out, labelled=labelled, effort="high")
    assert [row.stage for row in report.stages] == [
        "float32", "rounded", "corrected", "trained", "range coder",
    ]  # fmt: skip
    assert report.method == "rd" and report.target_bytes is None and report.max_drop is None
    assert report.file_bytes == out.stat().st_size == report.stages[-1].bytes
    assert report.original_bytes == report.stages[0].bytes > 8 * report.file_bytes
    assert report.comparison.kl < 0.3
    corrected, trained = report.stages[2:4]
    assert trained.bytes == pytest.approx(corrected.bytes, rel=0.02)
    # The size that stages were judged by is the file's, but for some digits of its measurements.
    assert abs(trained.bytes - report.file_bytes) < 40
    assert (report.stages[-1].top1 is None) == (not labelled)
    assert report.measured_labelled == labelled
    found = container.decode(out.read_bytes())
    for i, layer in enumerate(found.layers):
        assert isinstance(layer.weights, LevelWeights)
        assert layer.weights.trellis == (i > 0)
    assert not (tmp_path / "x.sqz.work").exists()

    # The record holds what the file itself is measured to do, as clients run it.
    provenance = found.record.provenance
    assert provenance["method"] == "rd" and provenance["settings"]["effort"] == "high"
    assert provenance["seed"] == 0 and "source_sha256" not in provenance
    images = digit_images(model, labelled=labelled).measure
    batches = EvalBatches(images, model.record.preprocessing, workers=0)
    assert report.measured_images == len(batches.images) == provenance["measured"]["images"]
    prep = model.record.preprocessing
    client = Classifier(out.read_bytes(), threads=1)
    client_logits = predict(client.logits, found.record, batches)
    original = predict(from_pixels(model.logits, prep), model.record, batches)
    temperature = recorded_temperature(found.record)
    assert (temperature != 1) == labelled
    comparison = compare(at_temperature(client_logits, 1 / temperature), original)
    # Batches of another size round the original's logits otherwise.
    assert dataclasses.replace(report.comparison, kl=0.0) == dataclasses.replace(comparison, kl=0.0)
    assert report.comparison.kl == pytest.approx(comparison.kl, rel=1e-5)
    measured = {"agreement": comparison.agreement, "kl": report.comparison.kl}
    if labelled:
        accuracy = score(client_logits)
        measured |= {"top1": accuracy.top1, "top5": accuracy.top5}
        measured |= {"ece": calibration_error(client_logits)}
        measured |= {"ece_before": calibration_error(original)}
        assert (report.stages[-1].top1, report.stages[-1].top5) == (accuracy.top1, accuracy.top5)
        assert report.drop == -comparison.top1_difference
    else:
        assert report.drop == 100 - comparison.agreement
    assert provenance["measured"] == {
        "images": len(batches.images),
        **{name: round(value, 4) for name, value in measured.items()},
    }


def test_an_interrupted_run_resumes_to_the_same_bytes(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = brief(correction_passes=2, training_steps=20)
    monkeypatch.setitem(EFFORT_PRESETS, "medium", preset)
    run(model, tmp_path / "a.sqz", effort="medium")
    has_network: list[bool] = []

    def stopped(self: Session, stop: object) -> None:
        has_network.append((self.job.work / "network.npz").is_file())
        # At the first batch of the curvature, and in the second pass of the correction.
        if len(has_network) == 1 or (has_network[-1] and has_network.count(True) == 5):
            raise InterruptedRunError("stopped", signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "raise_if_stopped", stopped)
        for _ in range(2):
            with pytest.raises(InterruptedRunError):
                run(model, tmp_path / "b.sqz", effort="medium")

    after_step, steps = StraightThroughNetwork.after_step, []

    def terminated(network: StraightThroughNetwork) -> None:
        after_step(network)
        steps.append(network)
        if len(steps) == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(StraightThroughNetwork, "after_step", terminated)
        with pytest.raises(InterruptedRunError, match="step 9 of 20"):
            run(model, tmp_path / "b.sqz", effort="medium")
    report = run(model, tmp_path / "b.sqz", effort="medium")
    assert [row.stage for row in report.stages] == [
        "float32",
        "corrected",
        "trained",
        "range coder",
    ]
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_weights_that_rounding_would_zero_are_pruned_first(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = brief(training_steps=20, retraining_steps=16)
    monkeypatch.setitem(EFFORT_PRESETS, "high", preset)
    monkeypatch.setattr(session, "FULL_TRAINING_IMAGES", 100)
    report = run(model, tmp_path / "a.sqz", labelled=True, effort="high", target_bytes=6000)
    stages = [row.stage for row in report.stages]
    assert stages == ["float32", "pruned", "rounded", "corrected", "range coder"]
    assert report.stages[2].density <= report.stages[1].density < 90
    assert report.file_bytes <= 6000

    # Killed while it retrains, it resumes to the same bytes.
    holder, held = retrain.mask_holder, []

    def stops(*arguments: Any) -> retrain.Hold:
        hold = holder(*arguments)

        def counted(module: torch.nn.Module) -> None:
            hold(module)
            held.append(module)
            if len(held) == 8:
                os.kill(os.getpid(), signal.SIGTERM)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(retrain, "mask_holder", stops)
        with pytest.raises(InterruptedRunError):
            run(model, tmp_path / "b.sqz", labelled=True, effort="high", target_bytes=6000)
    # The density is not searched for again.
    with monkeypatch.context() as patch:
        patch.setattr(rd, "save_density", lambda session, density: pytest.fail("searched again"))
        run(model, tmp_path / "b.sqz", labelled=True, effort="high", target_bytes=6000)
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_search_by_bytes_and_by_drop(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EFFORT_PRESETS, "low", brief(correction_images=32))
    small = run(model, tmp_path / "a.sqz", target_bytes=4500)
    assert 4000 < small.file_bytes <= 4500 == small.target_bytes
    strict = run(model, tmp_path / "c.sqz", labelled=True, max_drop=0.0)
    loose = run(model, tmp_path / "d.sqz", labelled=True, max_drop=20.0)
    # The bound is one of the file, not of a stage before it.
    assert strict.drop <= 0 and loose.drop <= 20
    assert strict.file_bytes > loose.file_bytes
    assert (strict.max_drop, loose.max_drop) == (0.0, 20.0)


def test_a_file_that_loses_too_much_is_made_finer(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EFFORT_PRESETS, "low", brief(correction_images=32))
    opened = Session(job_of(model, tmp_path), RateDistortionSettings(effort="low"))
    search = opened.level_search(opened.original, "curvature.npz")
    network = search.round(search.lambda_for(0.05), NARROWEST)
    losses: list[float] = []
    found: list[Any] = []

    def file_drop(compressed: Any) -> float:
        found.append(compressed)
        return losses[len(found) - 1]

    opened.job = dataclasses.replace(opened.job, file_drop=file_drop)

    def finer(*drops: float) -> Any:
        losses[:], found[:] = drops, []
        for path in tmp_path.glob("finer*"):
            path.unlink()
        return rd._within_drop(opened, opened.original, search, network, 1.0)

    assert finer(1.0) is network
    within = finer(3.0, 2.0, 0.5)
    assert within.lambda_ == network.lambda_ * rd.FINER_LAMBDA**2 and len(found) == 3
    # Nothing is good enough: the least lossy.
    assert finer(3.0, 2.0, 5.0, 4.0, 3.0).lambda_ == network.lambda_ * rd.FINER_LAMBDA
    assert finer(3.0, 4.0, 4.0, 4.0, 4.0) is network


def test_passes_of_correction_take_turns_with_the_images(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = brief(correction_images=300, correction_passes=3)
    monkeypatch.setitem(EFFORT_PRESETS, "low", preset)
    opened = Session(job_of(model, tmp_path), RateDistortionSettings(effort="low"))
    seen: list[list[bytes]] = []
    titles: list[str] = []

    def measure(student: Any, base: Any, graph: Any, batches: Any, **options: Any) -> None:
        seen.append([batches.images.pixels(i).tobytes() for i in range(len(batches))])
        titles.append(options["title"])
        assert options["seed"] == len(titles) - 1

    monkeypatch.setattr(rd, "measure_correction", measure)
    monkeypatch.setattr(Session, "model_on_device", lambda self, network: model)
    for i in range(3):
        network: Any = None
        assert rd._corrections(opened, model, network, {}, i) == []
    assert titles == ["correct 1/3", "correct 2/3", "correct 3/3"]
    assert [len(images) for images in seen] == [300] * 3
    num_learn = len(opened.learn)
    assert 600 < num_learn < 900
    first, second, third = (set(images) for images in seen)
    assert not first & second
    assert len(third & first) >= 900 - num_learn  # there are not enough for a third


def test_activation_scales_come_from_images_to_learn_from(
    model: LoadedModel, quantized: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Session(job_of(model, tmp_path), RateDistortionSettings())
    scales = rd._activation_scales(opened, quantized)
    graph = build_graph(opened.original.record.spec)
    assert list(scales) == [name for name in graph.tensors if name in scales] and scales
    monkeypatch.setattr(rd, "scaled_tensors", lambda graph: ())
    assert rd._activation_scales(opened, quantized) == {}


class Choice:
    """Measures nothing."""

    def divergence(self, network: Any, teacher: Any) -> float:
        return 0.125


def test_training_may_use_the_bytes_that_are_allowed(
    model: LoadedModel, quantized: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def train(self: Any, network: Any) -> Any:
        calls.append(self)
        point = TrainingPoint(step=1, seconds=2.0, bytes=3, divergence=self.divergence(network))
        return network, [point]

    monkeypatch.setattr(rd.LevelTraining, "run", train)
    monkeypatch.setattr(Session, "file_bytes", lambda self, network: 1234)
    for labelled, target in ((True, 5000), (False, None)):
        images = digit_images(model, labelled=labelled)
        opened = Session(
            job_of(model, tmp_path, images=images, seed=3),
            RateDistortionSettings(target_bytes=target),
        )
        choice: Any = Choice()
        assert rd._train(opened, opened.original, quantized, choice) is quantized
        assert [point.divergence for point in opened.job.trained] == [0.125]
        training = calls.pop()
        allowed = 1234 if target is None else target - UNKNOWN_BYTES
        assert training.max_bytes == allowed and training.size(quantized) == 1234
        assert training.labelled is (images.retrain if labelled else None)
        assert training.seed == 3
        assert len(training.images) == len(opened.learn)
