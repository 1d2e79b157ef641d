"""The temperature of a compression: what it is fitted on, what it changes, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.codec.container import decode
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.deep_compression.weight_sharing import at_temperature, share_network
from squeezenet.compress.measurement import Measurement
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.run import compress_model
from squeezenet.compress.temperature import tempered
from squeezenet.evaluation.calibration import calibration_error, fit_temperature
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import OPTIONS, digit_images

INPUT = (1, 8, 8)
SETTINGS = RateDistortionSettings(effort="low", divergence=0.02)


def test_it_is_fitted_on_the_measured_images(model: LoadedModel) -> None:
    images = digit_images(model, labelled=True)
    found = tempered(model, images, OPTIONS, fits=True)
    network = from_pixels(model.logits, model.record.preprocessing)
    predicted = Measurement(model, images, OPTIONS).predict(network)
    assert found.temperature == fit_temperature(predicted) != 1
    assert found.error_before == calibration_error(predicted)
    folded = from_pixels(found.model.logits, model.record.preprocessing)
    own = found.measurement.predict(folded)
    np.testing.assert_allclose(own.logits_NK * found.temperature, predicted.logits_NK, rtol=1e-4)
    # The network at this temperature is what a file is compared with.
    assert found.measurement.compare(own).kl < 1e-9
    assert found.refitted(found.model) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("labelled", [True, False])
def test_none_is_fitted_without_labels_or_if_none_is_wanted(
    model: LoadedModel, labelled: bool
) -> None:
    found = tempered(model, digit_images(model, labelled=labelled), OPTIONS, fits=not labelled)
    assert found.model is model and found.temperature == 1 == found.refitted(model)
    assert (found.error_before is None) is not labelled


def test_a_file_with_a_temperature(model: LoadedModel, tmp_path: Path) -> None:
    """The report and the record agree; the temperature is no part of what is lost."""
    images, out = digit_images(model, labelled=True), tmp_path / "m.sqz"
    report = compress_model(model, images, out, SETTINGS, recipe_named("digits"), options=OPTIONS)
    found = report.calibration
    assert found is not None and found.after < found.before
    record = decode(out.read_bytes(), "m").record
    assert record.provenance["temperature"] == found.temperature != 1
    measured = record.provenance["measured"]
    assert (measured["ece"], measured["ece_before"]) == (
        round(found.after, 4),
        round(found.before, 4),
    )
    assert report.comparison.kl < 0.05


def test_shared_weights_are_divided(model: LoadedModel) -> None:
    """Deep Compression fits once more after its retraining: centroids and biases take it."""
    folded = fold_batch_norm(model)
    graph = build_graph(folded.record.spec)
    layers = share_network(folded.module.state_dict(), graph, 4)
    divided = at_temperature(layers, 1.6)
    x_NCHW = np.random.default_rng(0).normal(size=(2, *INPUT)).astype(np.float32)
    before, after = (
        from_compressed(CompressedModel(record=folded.record, layers=each)).logits(x_NCHW)
        for each in (layers, divided)
    )
    np.testing.assert_allclose(after * 1.6, before, rtol=1e-4, atol=1e-5)
    assert divided[:-1] == layers[:-1]
