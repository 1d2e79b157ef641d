"""What a job of method rd may be asked for."""

from __future__ import annotations

import pytest

from squeezenet.compress.rate_distortion.settings import (
    EFFORT_PRESETS,
    RateDistortionSettings,
)
from squeezenet.errors import SpecError


def test_settings_are_checked() -> None:
    for divergence in (5.0, 0.99e-4, float("nan")):
        with pytest.raises(SpecError, match=f"divergence {divergence}, expected 0.0001 to 1.0"):
            RateDistortionSettings(divergence=divergence)
    for divergence in (1.0, 1e-4):
        RateDistortionSettings(divergence=divergence)
    with pytest.raises(SpecError, match="effort 'some', expected one of low, medium, high"):
        RateDistortionSettings(effort="some")  # type: ignore[arg-type]


def test_defaults_are_those_that_files_record() -> None:
    settings = RateDistortionSettings()
    assert (settings.divergence, settings.effort) == (0.07, "medium")
    assert settings.target_bytes is None and settings.max_drop is None


def test_more_effort_is_more_work() -> None:
    low, medium, high = (EFFORT_PRESETS[name] for name in ("low", "medium", "high"))
    assert low.width.scales < medium.width.scales <= high.width.scales
    assert low.width.survivors < medium.width.survivors < high.width.survivors
    assert low.correction_images < medium.correction_images < high.correction_images
    assert (low.training_steps, medium.training_steps, high.training_steps) == (0, 0, 6000)
    assert (low.retraining_steps, medium.retraining_steps, high.retraining_steps) == (0, 0, 8000)
    assert {preset.correction_passes for preset in (low, medium, high)} == {1}
    assert (low.curvature_images, high.curvature_images) == (2000, 4000)
