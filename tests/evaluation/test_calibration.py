"""Calibration by hand, and temperatures that undo what was done to logits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.evaluation.calibration import (
    MAX_TEMPERATURE,
    at_temperature,
    calibration_error,
    fit_temperature,
    recorded_temperature,
    reliability,
)
from squeezenet.evaluation.metrics import top_k
from squeezenet.evaluation.predict import LabelledLogits


def predictions(logits_NK: np.ndarray, labels: np.ndarray) -> LabelledLogits:
    return LabelledLogits(
        logits_NK=logits_NK.astype(np.float32), labels=labels, indices=labels * 0, skipped=0
    )


def calibrated(num_images: int = 4000, seed: int = 0) -> LabelledLogits:
    """Labels drawn by the probabilities that the logits say."""
    rng = np.random.default_rng(seed)
    logits_NK = rng.normal(0, 2, (num_images, 5))
    noise_NK = rng.gumbel(size=logits_NK.shape)
    return predictions(logits_NK, (logits_NK + noise_NK).argmax(axis=1))


def test_bins_of_confidence() -> None:
    # Two classes at 0.75 (one right of two) and at 0.99 (right).
    two = math.log(3), math.log(99)
    found = reliability(predictions(np.array([[two[0], 0], [two[0], 0], [0, two[1]]]),
                                    np.array([0, 1, 1])))  # fmt: skip
    assert found.counts_B.tolist() == [0] * 11 + [2, 0, 0, 1]
    assert found.confidence_B[[11, 14]] == pytest.approx([0.75, 0.99])
    assert found.accuracy_B[[11, 14]].tolist() == [0.5, 1.0]
    assert np.isnan(found.accuracy_B[0]) and np.isnan(found.confidence_B[0])
    assert found.error == pytest.approx(100 * (2 * 0.25 + 0.01) / 3)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_factor_of_the_logits(factor: float) -> None:
    given = calibrated()
    scaled = predictions(given.logits_NK * factor, given.labels)
    assert fit_temperature(scaled) == pytest.approx(factor, rel=0.06)
    after = at_temperature(scaled, fit_temperature(scaled))
    assert calibration_error(after) < 2.0
    assert np.array_equal(top_k(after.logits_NK, 5), top_k(scaled.logits_NK, 5))


def test_a_few_right_predictions_do_not_make_certainty() -> None:
    """Without a prior the best temperature of these would be 0."""
    logits_NK = np.eye(3)[[0, 1, 2, 0]] * 2
    few = predictions(logits_NK, np.array([0, 1, 2, 0]))
    assert 0.5 < fit_temperature(few) < 1
    wrong = predictions(logits_NK * 1e4, np.array([1, 2, 0, 1]))
    assert fit_temperature(wrong) == pytest.approx(MAX_TEMPERATURE, rel=1e-4)


def test_a_temperature_minimises_the_loss() -> None:
    """Of its own and neighbouring values, it has the least negative log-likelihood and prior."""
    given = calibrated(200, seed=3)

    def loss(temperature: float) -> float:
        z_NK = given.logits_NK.astype(np.float64) / temperature
        log_p_NK = z_NK - np.log(np.exp(z_NK).sum(axis=1, keepdims=True))
        likelihood = -log_p_NK[np.arange(200), given.labels].sum()
        return float(likelihood + math.log(temperature) ** 2 / (2 * math.log(2) ** 2))

    found = fit_temperature(given)
    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))


@pytest.mark.parametrize(
    ("provenance", "temperature"),
    [
        ({"temperature": 1.5}, 1.5),
        ({"temperature": 2}, 2.0),
        ({}, 1.0),
        ({"temperature": "hot"}, 1.0),
        ({"temperature": True}, 1.0),
        ({"temperature": -1.0}, 1.0),
        ({"temperature": 1e300}, 1.0),
        ({"source": {"temperature": 3.0}}, 1.0),
    ],
)
def test_what_a_record_says(
    tiny_record: ModelRecord, provenance: dict[str, Any], temperature: float
) -> None:
    record = dataclasses.replace(tiny_record, provenance=provenance)
    assert recorded_temperature(record) == temperature
