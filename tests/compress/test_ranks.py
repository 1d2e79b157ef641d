"""Compression by two processes: the file of one, to the byte, where nothing is retrained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.codec.container import decode
from squeezenet.compress.rate_distortion.curvature import skip_draws
from squeezenet.data.sources import open_training_data
from squeezenet.images.batches import EvalBatches
from tests.train.small import bright_images, quick, quick_run

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def compress(cwd: Path, out: str, *arguments: str, ranks: int) -> tuple[int, str, str]:
    start = TORCHRUN if ranks == 2 else ()
    common = ("--out", out, "--workers", "0", "--threads", "1", "--device", "cpu")
    done = subprocess.run(
        [sys.executable, *start, "-m", "squeezenet", "compress", "run", *common, *arguments],
        cwd=cwd, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on the digits."""
    folder = tmp_path_factory.mktemp("ranks")
    data, recipe = open_training_data("digits"), quick(max_steps=60, batch_size=64)
    quick_run(folder / "run", recipe, data=data)
    return folder


def test_two_processes_make_the_file_of_one(workplace: Path) -> None:
    files = []
    for ranks in (1, 2):
        out = f"{ranks}.sqz"
        arguments = ("--calib", "digits", "--effort", "low")
        code, stdout, stderr = compress(workplace, out, *arguments, ranks=ranks)
        assert code == 0, stderr
        assert stdout.count("Method rd") == 1
        files.append((workplace / out).read_bytes())
        assert not (workplace / f"{out}.work").exists()
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "digits", "--effort", "high"),  # trains the levels
        ("--data", "digits", "--method", "deep-compression", "--prune-epochs", "2"),
        ("--data", "digits", "--max-drop", "1"),
        ("--data", "digits", "--target-bytes", "4000"),
    ],
)
def test_two_processes_retrain(workplace: Path, arguments: tuple[str, ...]) -> None:
    """Their dropout differs, so the file differs a little."""
    sizes = []
    for ranks in (1, 2):
        out = f"{ranks}-{arguments[-1]}.sqz"
        code, _, stderr = compress(workplace, out, *arguments, ranks=ranks)
        assert code == 0, stderr
        data = (workplace / out).read_bytes()
        assert len(decode(data).record.class_names) == 10
        sizes.append(len(data))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_each_rank_draws_what_one_process_draws_for_its_images() -> None:
    images = bright_images(100)
    prep = default_preprocessing(preset("squeezenet_tiny"))
    whole = torch.Generator().manual_seed(4)
    draws = [torch.randn((len(b.labels), 10), generator=whole)
             for b in EvalBatches(images, prep, workers=0, batch_size=16)]  # fmt: skip
    for first in (0, 1, 3, 6):
        part = range(16 * first, 100)
        batches = EvalBatches(images, prep, workers=0, batch_size=16, part=part)
        generator = torch.Generator().manual_seed(4)
        skip_draws(generator, batches, 10)
        for batch, expected in zip(batches, draws[first:], strict=True):
            assert torch.equal(torch.randn((len(batch.labels), 10), generator=generator), expected)
