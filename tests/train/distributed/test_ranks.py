"""1, 2 and 4 processes give one training: the same curve, counts, order and checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from squeezenet.model.safetensors_file import load_safetensors
from tests.conftest import REPOSITORY

SIZES = (1, 2, 4)


def launch(out: Path, part: str, num_ranks: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(num_ranks), "-m", "tests.train.distributed.job"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(out), part], cwd=REPOSITORY, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the jobs have left: the second part resumes what the first has stopped."""
    folder = tmp_path_factory.mktemp("ranks")
    for part in ("first", "second"):
        jobs = [launch(folder, part, num_ranks) for num_ranks in SIZES]
        for job in jobs:
            text, _ = job.communicate(timeout=300)
            assert job.returncode == 0, text
            assert "Warning" not in text, text
    return folder


def found(out: Path, num_ranks: int, part: str = "first") -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / f"{part}-{num_ranks}.json").read_text())
    return result


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_safetensors(run / "last.safetensors").module.state_dict()


def assert_close(a: Path, b: Path, tolerance: float) -> None:
    ours, others = weights(a), weights(b)
    assert ours.keys() == others.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, others[key], atol=tolerance, rtol=0, msg=key)


@pytest.mark.parametrize("recipe", ["sgd", "muon"])
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_same_loss_curve(out: Path, recipe: str, num_ranks: int) -> None:
    """50 steps with clipping, moving average, and parts that do not divide evenly."""
    alone, shared = losses(out / f"{recipe}-1"), losses(out / f"{recipe}-{num_ranks}")
    assert len(alone) == 10 and alone[-1] < 0.8 * alone[0]
    assert shared == pytest.approx(alone, abs=1e-4)
    assert_close(out / f"{recipe}-1", out / f"{recipe}-{num_ranks}", 1e-4)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_same_counts(out: Path, num_ranks: int) -> None:
    """Each image is counted once, in order, also where some cannot be read."""
    counts = found(out, 1)["counts"]
    assert counts == found(out, num_ranks)["counts"]
    assert counts["all"][2:] == [301, 0] and counts["broken"][2:] == [299, 2]
    assert counts["all order"] == list(range(301))
    assert counts["broken order"] == [i for i in range(301) if i not in (5, 290)]


@pytest.mark.parametrize("num_ranks", SIZES)
def test_batch_normalisation_and_ranks_without_images(out: Path, num_ranks: int) -> None:
    assert found(out, num_ranks)["statistics"]["statistics"]


@pytest.mark.parametrize("num_ranks", SIZES)
def test_checkpoints_change_no_bit(out: Path, num_ranks: int) -> None:
    """Neither when they are written, nor by going on from one."""
    assert found(out, num_ranks)["saved"]["ended"].startswith("stopped at step 7 of 15")
    rarely = out / f"rarely-{num_ranks}"
    assert_close(rarely, out / f"often-{num_ranks}", 0.0)
    assert_close(rarely, out / f"twice-{num_ranks}", 0.0)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_comm_hooks(out: Path, num_ranks: int) -> None:
    hooks = found(out, num_ranks)["hooks"]
    assert min(hooks[name] for name in ("fp16", "int8", "powersgd")) > 60
    assert hooks["bf16"] == (
        "--comm-hook bf16: PyTorch has it for NCCL on newer GPUs, not for the backend gloo; use "
        "--comm-hook fp16"
    )
    assert_close(out / f"sgd-{num_ranks}", out / "sgd-1", 1e-4)  # what follows is by another path
    rounded = losses(out / f"fp16-{num_ranks}")
    assert rounded == pytest.approx(losses(out / "fp16-1"), rel=0.05)
    assert rounded != losses(out / "fp16-1")


ERRORS = {
    "seed": "seed is 1 here and 0 on rank 0; start all ranks with the same arguments",
    "rate": "recipe.learning_rate is 0.1 here and 0.2 on rank 0; start all ranks with the same "
    "arguments",
    "data": "the names or labels of the images here are not those of rank 0; give all ranks the "
    "same data",
    "file": "photos: No such file or directory",
}


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_one_rank_ends_all(out: Path, num_ranks: int, name: str) -> None:
    last = num_ranks - 1
    code = 1 if name == "file" else 2
    reports = found(out, num_ranks)["errors"][name]
    assert reports[last] == [ERRORS[name], code, True]
    assert reports[:last] == [[f"rank {last}: {ERRORS[name]}", code, True]] * last


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad training image", "noise0[7]: is broken"),
        ("bad validation image", "is broken"),
        ("folder", "full: is not empty and holds no run; choose another --out"),
    ],
)
def test_an_error_of_any_rank_ends_all(out: Path, num_ranks: int, name: str, message: str) -> None:
    reports = found(out, num_ranks)["errors"][name]
    assert len(reports) == num_ranks
    assert all(message in text and is_shared for text, _, is_shared in reports)
    assert len({code for _, code, _ in reports}) == 1
    assert sum(text.startswith("rank ") for text, _, _ in reports) == num_ranks - 1


@pytest.mark.parametrize("num_ranks", SIZES)
def test_all_ranks_leave_a_training_that_diverges(out: Path, num_ranks: int) -> None:
    reports = found(out, num_ranks)["errors"]["loss"]
    assert len({text for text, _, _ in reports}) == 1 and "the loss is nan" in reports[0][0]


@pytest.mark.parametrize("num_ranks", SIZES)
def test_a_signal_to_one_rank_stops_all_at_the_same_step(out: Path, num_ranks: int) -> None:
    stopped = found(out, num_ranks)["stopped"]["stopped"]
    assert stopped == [["stopped at step 7 of 15", 143, True]] * num_ranks


@pytest.mark.parametrize("num_ranks", SIZES)
def test_a_run_goes_on_with_another_number_of_ranks(out: Path, num_ranks: int) -> None:
    """In the middle of an epoch, to the weights of the run that was not stopped."""
    resumed = found(out, num_ranks, "second")["resumed"]
    assert resumed["steps"] == 15 and resumed["ranks"] == num_ranks
    assert resumed["from"] != num_ranks
    assert_close(out / f"stopped-{resumed['from']}", out / "whole-1", 1e-4)
    result = json.loads((out / f"stopped-{resumed['from']}" / "result.json").read_text())
    assert result["ranks"] == num_ranks
