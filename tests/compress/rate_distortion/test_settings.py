"""What a job of method rd may be asked for."""

from __future__ import annotations

import pytest

from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import SpecError


def test_settings_are_checked() -> None:
    with pytest.raises(SpecError, match=r"divergence 5\.0, expected"):
        RateDistortionSettings(divergence=5.0)
    with pytest.raises(SpecError, match="effort 'some'"):
        RateDistortionSettings(effort="some")  # type: ignore[arg-type]
