"""A few of the faults of ``python -m tests.faults``; each allocation of our own C fails once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.faults.__main__ import fail_one
from tests.faults.scenarios import SCENARIOS, Workplace, build_library, failing_call, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloads a library for Linux")

ALLOCATIONS = """
import sys
import numpy as np
from squeezenet import Classifier
from squeezenet._native import round_output
from squeezenet.codec.container import decode, encode
from squeezenet.codec.model_kinds import DEFAULT_MODEL
from squeezenet.errors import SqueezeNetError

data = DEFAULT_MODEL.read_bytes()
pixels = np.arange(40 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 30, 3)

def work():
    answers = []
    for options in ({}, {"threads": 2}, {"streamed": True}):
        answers.append(Classifier(data, **options)(pixels, top=1)[0])
    answers.append(encode(decode(data, "default")) == data)
    return answers

failed = 0
for _ in range(2):
    try:
        answers = work()
    except (MemoryError, SqueezeNetError) as error:
        failed += 1
print(failed, len(set(answers[:3])), answers[3])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


@pytest.mark.parametrize("kind", ["rename", "fsync", "write"])
@pytest.mark.parametrize("name", ["export", "fetch"])
def test_a_call_that_fails(place: Workplace, library: Path, name: str, kind: str) -> None:
    scenario = SCENARIOS[name]
    assert fail_one(place, scenario, library, kind, 1, errno.ENOSPC) == []


def test_each_allocation_of_our_c_fails_once(library: Path, tmp_path: Path) -> None:
    def outcome(number: int) -> str:
        environment = failing_call(library, tmp_path / "none", "malloc", number)
        done = subprocess.run(
            [sys.executable, "-c", ALLOCATIONS],
            cwd=REPOSITORY,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"allocation {number}: {done.stderr[-500:]}"
        return done.stdout.strip()

    assert outcome(0) == "0 1 True"
    num_allocations = int((tmp_path / "count").read_text()) // 2
    assert num_allocations > 10
    for number in range(1, num_allocations + 1):
        # One call fails, or does without: with one thread where a second has no memory.
        found = outcome(number)
        assert found in ("1 1 True", "0 1 True"), f"allocation {number} of {num_allocations}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rename", "fsync"])
@pytest.mark.parametrize("name", ["train", "compress", "report", "shard"])
def test_each_rename_and_sync_that_fails(
    place: Workplace, library: Path, name: str, kind: str
) -> None:
    scenario = SCENARIOS[name]
    folder = place.new_folder(scenario, name)
    assert run(scenario, folder, failing_call(library, folder, kind, 0)).code == 0
    for number in range(1, int((place.root / "count").read_text()) + 1):
        assert fail_one(place, scenario, library, kind, number, errno.EIO) == [], number
