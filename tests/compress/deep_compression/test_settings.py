"""What a job of Deep Compression may be asked for."""

from __future__ import annotations

import pytest

from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.errors import SpecError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "9 bits per weight, expected 2 to 8"),
        ({"bits": 1}, "1 bits per weight"),
        ({"prune_epochs": -1}, "prune_epochs is -1, expected 0 or more"),
        ({"share_epochs": -1}, "share_epochs is -1"),
        ({"learning_rate": 0.0}, "learning rate 0.0"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"scan_budget": -0.1}, "scan budget -0.1"),
    ],
)
def test_settings_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        DeepCompressionSettings(**options)  # type: ignore[arg-type]


def test_limits_and_defaults() -> None:
    DeepCompressionSettings(bits=2, prune_epochs=0, share_epochs=0, scan_budget=0.0)
    DeepCompressionSettings(bits=8)
    found = DeepCompressionSettings()
    assert (found.bits, found.scan_budget, found.learning_rate) == (6, 0.5, 0.02)
    assert found.density is None and found.densities == {} and found.target_bytes is None
    assert found.prune_epochs is None and found.share_epochs is None
