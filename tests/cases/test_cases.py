"""The scripts of faults that users met: each ends with 0 where the behaviour is right.

They lie beside the shared data. A script whose imports have been renamed since has a copy here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED

OWN = Path(__file__).parent
CASES = SHARED.parent / "cases"
SECONDS = 300
"""The slowest, a data set with parts of four names, takes 40 on a busy machine."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there"),
]


def names() -> list[str]:
    return sorted(path.name for path in CASES.iterdir()) if CASES.is_dir() else []


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A ``squeezenet`` with a ``python`` beside it, as in an environment where it is installed."""
    for name, arguments in (("squeezenet", "-m squeezenet"), ("python", "")):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    return tmp_path / "bin" / "squeezenet"


@pytest.mark.parametrize("name", names())
def test_case(name: str, command: Path) -> None:
    script = OWN / name if (OWN / name).exists() else CASES / name
    shell = [sys.executable] if script.suffix == ".py" else ["bash"]
    done = subprocess.run(
        [*shell, script, command], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
