"""Every attack of attacks/ fails, and its README says of each what the program says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "attacks"))
import images as attacks_on_images
import models as attacks_on_models
from attack import Attack, carry_out

ATTACKS = [*attacks_on_models.attacks(), *attacks_on_images.attacks()]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_fails(attack: Attack, tmp_path: Path) -> None:
    outcome = carry_out(attack, tmp_path)
    assert outcome.fault is None, outcome.said


def test_readme_names_them() -> None:
    text = (REPOSITORY / "attacks" / "README.md").read_text(encoding="utf-8")
    for attack in ATTACKS:
        assert f"| `{attack.name}` | {attack.wants} | {attack.why} |" in text
