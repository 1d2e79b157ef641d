"""A run on real pictures, killed over and over. Needs the CIFAR-10 of the shared data."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_STEPS, _KILLS, _IMAGES_A_CLASS = 300, 20, 100


@pytest.fixture(scope="module")
def cifar(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first training pictures of each class."""
    root = tmp_path_factory.mktemp("cifar")
    taken: dict[str, int] = {}
    with tarfile.open(shared / "cifar10-jpeg.tar.gz") as archive:
        for member in archive:
            parent = str(Path(member.name).parent)
            if not member.isfile() or "train" not in Path(parent).parts:
                continue
            taken[parent] = taken.get(parent, 0) + 1
            if taken[parent] <= _IMAGES_A_CLASS:
                archive.extract(member, root, filter="data")
    return next(root.rglob("train")).parent


def start(data: Path, run: Path) -> subprocess.Popen[str]:
    arguments = [
        "train", data, "--arch", "squeezenet_cifar", "--out", run, "--max-steps", _STEPS,
        "--batch-size", 32, "--workers", 2, "--device", "cpu", "--threads", 2,
        "--checkpoint-every", 0,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "squeezenet", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output


def newest(run: Path) -> str:
    return max((path.name for path in run.glob("checkpoints/step-*")), default="")


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


def test_twenty_kills_with_workers_end_bit_identical(cifar: Path, tmp_path: Path) -> None:
    """SIGKILL 20 times over 300 steps, every other time while a checkpoint is being written."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(cifar, whole))
    rng = random.Random(0)
    in_a_checkpoint = 0
    for kill in range(_KILLS):
        process = start(cifar, killed)
        first = newest(killed)
        while newest(killed) == first and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        if kill % 2:
            while not list(killed.glob("checkpoints/.*.tmp")) and process.poll() is None:
                pass
        process.kill()
        process.communicate()
        in_a_checkpoint += bool(list(killed.glob("checkpoints/.*.tmp")))
    assert not (killed / "result.json").exists(), "the kills came too late to mean anything"
    assert in_a_checkpoint >= 3, "no kill met a checkpoint half written"
    finish(start(cifar, killed))
    for name in ("last.safetensors", "best.safetensors"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert losses(whole) == losses(killed)
