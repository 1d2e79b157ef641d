"""The temperature of a compression: what it is fitted on, what it changes, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.client import Classifier
from squeezenet.codec.container import decode
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.deep_compression.weight_sharing import (
    share_network,
    with_shared_temperature,
)
from squeezenet.compress.measurement import Measurement
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.report import CompressionReport
from squeezenet.compress.run import compress_model
from squeezenet.compress.temperature import TemperatureFit
from squeezenet.evaluation.calibration import at_temperature, calibration_error, fit_temperature
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import OPTIONS, digit_images
from tests.train.small import Log

SETTINGS = RateDistortionSettings(effort="low", divergence=0.02)
Files = dict[bool, tuple[CompressionReport, Path]]


def fit_of(model: LoadedModel, *, labelled: bool, is_wanted: bool) -> tuple[TemperatureFit, Log]:
    images, log = digit_images(model, labelled=labelled), Log()
    measurement = Measurement(model, images, OPTIONS)
    return TemperatureFit(model, measurement, images, log, is_wanted=is_wanted), log


def test_it_is_fitted_on_the_measured_images(model: LoadedModel) -> None:
    fit, log = fit_of(model, labelled=True, is_wanted=True)
    measurement = Measurement(model, digit_images(model, labelled=True), OPTIONS)
    predicted = measurement.predict(from_pixels(model.logits, model.record.preprocessing))
    assert fit.fit(model) == fit.value == fit_temperature(predicted) != 1
    divided = at_temperature(predicted, fit.value)
    found = fit.calibration(divided)
    assert found is not None and found.temperature == fit.value
    assert found.before == calibration_error(predicted)
    assert found.after == calibration_error(divided) < found.before
    np.testing.assert_allclose(fit.removed(divided).logits_NK, predicted.logits_NK, rtol=1e-5)
    assert log.lines == [
        f"temperature {fit.value:.3f}, fitted on 179 labelled images, goes into the last layer"
    ]


@pytest.mark.parametrize(("labelled", "is_wanted"), [(True, False), (False, True), (False, False)])
def test_none_is_fitted_without_labels_or_if_none_is_wanted(
    model: LoadedModel, labelled: bool, is_wanted: bool
) -> None:
    fit, log = fit_of(model, labelled=labelled, is_wanted=is_wanted)
    assert fit.fit(model) == 1.0 and not fit.is_wanted
    assert len(log.lines) == int(is_wanted and not labelled)
    measurement = Measurement(model, digit_images(model, labelled=labelled), OPTIONS)
    assert (fit.calibration(measurement.original_predictions) is not None) is labelled


@pytest.fixture(scope="module")
def files(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The same compression with and without a temperature."""
    images, made = digit_images(model, labelled=True), {}
    for wanted in (True, False):
        out = tmp_path_factory.mktemp("t") / "m.sqz"
        report = compress_model(
            model, images, out, SETTINGS, recipe_named("digits"),
            temperature=wanted, options=OPTIONS,
        )  # fmt: skip
        made[wanted] = report, out
    return made


def test_the_record_and_the_report_agree(files: Files) -> None:
    report, out = files[True]
    found, record = report.calibration, decode(out.read_bytes(), "m").record
    assert found is not None and found.after < found.before
    assert record.provenance["temperature"] == found.temperature != 1
    measured = record.provenance["measured"]
    assert measured["ece"] == round(found.after, 4)
    assert measured["ece_before"] == round(found.before, 4)
    plain, without = files[False]
    assert plain.calibration is not None and plain.calibration.temperature == 1
    assert plain.calibration.before == found.before
    assert "temperature" not in decode(without.read_bytes(), "m").record.provenance


def test_it_decides_nothing_but_probabilities(files: Files) -> None:
    """As many bytes, as large a divergence, and logits that are divided by it."""
    (tempered, out), (plain, without) = files[True], files[False]
    assert tempered.comparison.kl == pytest.approx(plain.comparison.kl, rel=0.3)
    assert tempered.file_bytes == pytest.approx(plain.file_bytes, rel=0.02)
    pixels_NHWC = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    divided, whole = (Classifier(path).logits(pixels_NHWC) for path in (out, without))
    ratio = float((whole * divided).sum() / np.square(divided).sum())
    assert tempered.calibration is not None
    assert ratio == pytest.approx(tempered.calibration.temperature, rel=0.1)


def test_shared_weights_are_divided(folded: LoadedModel) -> None:
    """Deep Compression divides the last codebook and biases, after its retraining."""
    graph = build_graph(folded.record.spec)
    layers = share_network(
        folded.module.state_dict(), graph, {conv.name: 4 for conv in graph.convs}
    )
    divided = with_shared_temperature(layers, 1.6)
    x_NCHW = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    before, after = (
        from_compressed(CompressedModel(record=folded.record, layers=each)).logits(x_NCHW)
        for each in (layers, divided)
    )
    np.testing.assert_allclose(after * 1.6, before, rtol=1e-4, atol=1e-5)
    assert divided[:-1] == layers[:-1]
