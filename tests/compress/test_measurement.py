"""What a stage is measured to be worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezenet.compress import measurement as module
from squeezenet.compress.measurement import Measurement
from squeezenet.evaluation.metrics import compare, score
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.progress import SilentProgress
from tests.compress.conftest import OPTIONS, digit_images, job_of


def changed(model: LoadedModel) -> LoadedModel:
    found = copy_model(model)
    with torch.no_grad():
        for parameter in found.module.parameters():
            parameter *= 0.8
    return found


def test_accuracy_and_drop(model: LoadedModel) -> None:
    other, prep = changed(model), model.record.preprocessing
    for labelled in (True, False):
        images = digit_images(model, labelled=labelled)
        measurement = Measurement(model, images, OPTIONS)
        before, after = (measurement.predict(from_pixels(m.logits, prep)) for m in (model, other))
        np.testing.assert_array_equal(before.labels, images.measure.labels)
        comparison = compare(after, before)
        assert measurement.compare(after) == comparison
        assert comparison.agreement < 100
        if labelled:
            assert measurement.accuracy(other) == measurement.accuracy_of(after) == score(after)
            assert measurement.drop(other) == -comparison.top1_difference != 0
        else:
            assert measurement.accuracy(other) is None is measurement.accuracy_of(after)
            assert measurement.drop(other) == 100 - comparison.agreement
        assert measurement.drop(model) == 0


def test_the_original_is_run_once(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = Measurement(model, digit_images(model), OPTIONS)
    runs: list[int] = []
    run = module.predict_on_ranks

    def counted(*arguments: object, **options: object) -> object:
        runs.append(1)
        return run(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "predict_on_ranks", counted)
    for _ in range(2):
        measurement.drop(model)
    assert len(runs) == 3


def test_a_job_reports_nowhere_by_default(model: LoadedModel, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert isinstance(job_of(model, tmp_path).progress, SilentProgress)
