"""A few hundred changed files per reader: each is read or refused, see ``contract``."""

from __future__ import annotations

import mmap
import random
from pathlib import Path

import pytest

from tests.fuzz.contract import Broken, check_input
from tests.fuzz.mutate import random_change
from tests.fuzz.targets import TARGETS

SEED = 22
NUM_INPUTS = {"pictures": 400, "pth": 150, "safetensors": 200, "onnx": 200, "net": 100,
              "run-folder": 30, "work-folder": 200}  # fmt: skip
GOOD = {
    "pth": ("read", "WeightsError"),  # some are of other networks
    "safetensors": ("read", "WeightsError"),
    "onnx": ("read", "UsageError", "UnknownFormatError"),  # int8; of another program
    "run-folder": ("read", "CheckpointError"),  # settings that are compared with none
}


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    """Of each good file, and of those changed once to four times; the seed is ``SEED``."""
    target, rng = TARGETS[name], random.Random(SEED)
    files, change = target.seeds(), random_change(rng)
    for file in files:
        assert target.check(file, tmp_path / "work") in GOOD.get(name, ("read",))
    for number in range(NUM_INPUTS[name]):
        data = rng.choice(files)
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = target.mutate(data, rng, change)
        try:
            target.check(data, tmp_path / "work")
        except BaseException:
            kept = tmp_path / "finding"
            kept.write_bytes(data)
            print(f"input {number}: python -m tests.fuzz {name} --replay {kept}")
            raise


def take_new_pages(num_bytes: int) -> None:
    """Not from the heap, which may have as much left over from earlier tests."""
    with mmap.mmap(-1, num_bytes) as pages:
        pages.write(b"x" * num_bytes)


def test_the_contract_notices(tmp_path: Path) -> None:
    """What is written outside, a message of two lines, and memory."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    with pytest.raises(Broken, match="outside"):
        check_input(lambda log: outside.write_bytes(b"x"), inside, 1 << 30)
    with pytest.raises(Broken, match="one line"):
        check_input(lambda log: log.log("a\nb"), inside, 1 << 30)
    with pytest.raises(Broken, match="processor time"):
        check_input(lambda log: sum(range(100_000)), inside, 1 << 30, max_seconds=0.0)
    if Path("/proc/self/clear_refs").exists():
        with pytest.raises(Broken, match="MB"):
            check_input(lambda log: take_new_pages(1 << 26), inside, 1 << 24)
    assert check_input(lambda log: (inside / "x").write_bytes(b"x"), inside, 1 << 30) == "read"
