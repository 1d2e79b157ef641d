"""Metrics of logits by hand, and the evaluation of a network on a folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import ClassCountError, WeightsError
from squeezenet.evaluation.metrics import (
    compare,
    kl_divergence,
    num_in_top_k,
    require_same_classes,
    softmax,
    top_k,
)
from squeezenet.evaluation.predict import evaluate, predict
from squeezenet.images.batches import EvalBatches
from squeezenet.images.folders import read_class_folders
from squeezenet.images.sets import with_model_labels
from tests.conftest import record_of

MakeFolder = Callable[..., Path]


def test_top_k_puts_the_lower_index_first_among_equals() -> None:
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0]], np.float32)
    assert top_k(logits, 2).tolist() == [[1, 2], [0, 1]]
    labels = np.array([2, 1])
    assert (num_in_top_k(logits, labels, 1), num_in_top_k(logits, labels, 2)) == (0, 2)


def test_softmax_of_any_magnitude() -> None:
    logits = np.array([[0.0, math.log(3.0)], [1000.0, 1000.0], [-5000.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [0.5, 0.5], [0, 1]], atol=1e-7)


def test_kl_divergence_by_hand() -> None:
    half = np.zeros((1, 2), np.float32)
    quarter = np.array([[0.0, math.log(3.0)]], np.float32)
    assert kl_divergence(half, half).tolist() == [0]
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    np.testing.assert_allclose(kl_divergence(half, quarter), [expected], rtol=1e-5)
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    np.testing.assert_allclose(kl_divergence(quarter, half), [expected], rtol=1e-5)
    far = np.array([[1000.0, 0.0, 0.0]], np.float32)
    assert np.isfinite(kl_divergence(far, -far)).all()


def by_colour(pixels_NHWC: np.ndarray) -> np.ndarray:
    """Logits that are right on every image of ``image_folder``."""
    return np.asarray(pixels_NHWC.mean(axis=(1, 2)), np.float32)


def always_first(pixels_NHWC: np.ndarray) -> np.ndarray:
    return np.tile(np.float32([1, 0, 0]), (len(pixels_NHWC), 1))


def three_class_batches(image_folder: MakeFolder) -> tuple[ModelRecord, EvalBatches]:
    record = record_of(preset("squeezenet1_1", num_classes=3, input_size=(8, 8)))
    images = with_model_labels(read_class_folders(image_folder(c0=6, c1=6, c2=6)), record)
    return record, EvalBatches(images, record.preprocessing, workers=0)


def test_evaluate_and_compare(image_folder: MakeFolder) -> None:
    record, batches = three_class_batches(image_folder)
    result = evaluate(by_colour, record, batches)
    assert (result.top1, result.top5, result.images, result.skipped) == (100.0, 100.0, 18, 0)
    first, right = (predict(network, record, batches) for network in (always_first, by_colour))
    comparison = compare(first, right)
    assert comparison.agreement == pytest.approx(100 / 3)
    assert comparison.top1_difference == pytest.approx(-200 / 3)
    # Six images differ by 0 points, twelve by -100: their standard deviation over sqrt(18).
    assert comparison.top1_standard_error == pytest.approx(100 * math.sqrt(2 / 9 / 18))
    assert comparison.top5_difference == comparison.top5_standard_error == 0
    expected = kl_divergence(right.logits_NK, first.logits_NK).mean()
    assert comparison.kl == pytest.approx(expected) and comparison.kl > 0


def test_images_that_cannot_be_read_are_counted(image_folder: MakeFolder) -> None:
    record, batches = three_class_batches(image_folder)
    Path(batches.images.name(7)).write_bytes(b"no image")
    predicted = predict(by_colour, record, batches)
    assert predicted.skipped == 1 and predicted.indices.tolist() == [*range(7), *range(8, 18)]
    assert evaluate(by_colour, record, batches).images == 17


def test_logits_must_be_finite(image_folder: MakeFolder) -> None:
    record, batches = three_class_batches(image_folder)
    for value in (np.nan, np.inf):
        with pytest.raises(WeightsError, match="logits are not finite"):
            predict(lambda x, value=value: by_colour(x) * value, record, batches)


def test_only_networks_of_the_same_classes_are_compared() -> None:
    three, four = (
        record_of(preset("squeezenet1_1", num_classes=k, input_size=(8, 8))) for k in (3, 4)
    )
    require_same_classes(three, three)
    with pytest.raises(ClassCountError, match="different classes"):
        require_same_classes(three, four)
