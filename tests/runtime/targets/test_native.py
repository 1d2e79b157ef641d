"""The runtime on this machine alone, under the sanitizers; make test-targets runs the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.runtime.targets.cases import PRESETS, SEEDS, case
from tests.runtime.targets.programs import PROGRAMS, build, check


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def test_every_way_is_the_oracles_under_the_sanitizers(folder: Path) -> None:
    sanitizers = next(each for each in PROGRAMS if each.name == "sanitizers")
    if shutil.which(sanitizers.compiler) is None:
        pytest.skip(f"needs {sanitizers.compiler}, which is not in the path")
    built = build(sanitizers, folder)
    assert built is not None
    for name in (*(f"random{seed}" for seed in SEEDS[::2]), PRESETS[0]):  # half, for time's sake
        kernels, compared = check(sanitizers, built, case(name, folder))
        assert "portable" in kernels and compared
