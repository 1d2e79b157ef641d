"""Every attack of attacks/ fails, and its README agrees with the program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "attacks"))
import folders as attacks_by_folders
import images as attacks_on_images
import models as attacks_on_models
import network as attacks_by_servers
import shards as attacks_by_shards
import torch_files as attacks_by_torch_files
from attack import Attack, run_attack

ATTACKS = [
    *attacks_on_models.attacks(),
    *attacks_by_torch_files.attacks(),
    *attacks_on_images.attacks(),
    *attacks_by_servers.attacks(),
    *attacks_by_folders.attacks(),
    *attacks_by_shards.attacks(),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_fails(attack: Attack, tmp_path: Path) -> None:
    outcome = run_attack(attack, tmp_path)
    assert outcome.fault is None, outcome.output


def test_readme_has_all_attacks() -> None:
    text = (REPOSITORY / "attacks" / "README.md").read_text(encoding="utf-8")
    for attack in ATTACKS:
        assert f"| `{attack.name}` | {attack.goal} | {attack.defence} |" in text
