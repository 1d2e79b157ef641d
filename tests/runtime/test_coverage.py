"""The branches of the C runtime that tests and the fuzzing corpus reach: ``coverage.py``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.runtime.coverage import NEEDS, measure


@pytest.mark.slow
def test_branches_of_the_runtime_are_reached(tmp_path: Path) -> None:
    missing = [tool for tool in NEEDS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, which python -m tests.runtime.coverage installs")
    assert measure(tmp_path), "see the report above"
