"""Studies that take no time: their trials train nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from squeezenet.arch.presets import squeezenet_tiny
from squeezenet.explore.plan import TrialPlan, plans
from squeezenet.explore.sweeps import SWEEPS, Metaparameters, variants

pytest.importorskip("optuna", reason="needs the extra explore")


@pytest.fixture
def base() -> Metaparameters:
    return Metaparameters(arch=squeezenet_tiny(), base_e=16, incr_e=16)


@pytest.fixture
def some_plans(base: Metaparameters) -> list[TrialPlan]:
    """Five networks with four seeds."""
    return plans(variants(SWEEPS["sr"], base, SWEEPS["sr"].values), 4)


def start_claims(
    url: str, name: str, folder: Path, log: Path, *, processes: int, seconds: float = 0.0
) -> list[subprocess.Popen[bytes]]:
    """Start processes that take all trials of a study."""
    command: Sequence[str] = [sys.executable, "-m", "tests.explore.claims", url, name]
    return [
        subprocess.Popen([*command, str(folder), str(log), str(seconds)]) for _ in range(processes)
    ]
