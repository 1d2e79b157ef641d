"""A folder that export writes: it compiles without a warning and gives the same logits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezenet.arch.record import ModelRecord
from squeezenet.client import Classifier
from squeezenet.codec.container import encode
from tests.conftest import random_model, squeezenet
from tests.runtime.networks import random_network


@pytest.fixture
def compilers() -> list[str]:
    found = [each for each in ("gcc", "clang") if shutil.which(each)]
    if not found and not shutil.which("cc"):
        pytest.skip("needs a C compiler, and there is none in the path")
    return found or ["cc"]


@pytest.mark.parametrize("seed", [1, 4])
def test_compiles_and_answers_alike(tmp_path: Path, compilers: list[str], seed: int) -> None:
    model = random_network(seed)
    (tmp_path / "m.sqz").write_bytes(encode(model))
    done = squeezenet("export", tmp_path / "m.sqz", "--to", "c", "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    sources = sorted((tmp_path / "c").glob("*.c"))
    program = tmp_path / "program"
    for compiler in compilers:
        built = subprocess.run(
            [compiler, *flags, *sources, "-o", program], capture_output=True, text=True
        )
        assert built.returncode == 0, built.stderr
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.ppm")
    told = subprocess.run(
        [program, "--logits", tmp_path / "p.ppm"], capture_output=True, text=True, check=True
    ).stdout
    found = {int(line.split()[0]): int(line.split()[1]) for line in told.splitlines()}
    classifier = Classifier(tmp_path / "m.sqz")
    expected = classifier.integer_logits(classifier.crop(pixels)[None])[0]
    assert [found[k] for k in range(len(expected))] == expected.tolist()
    best = subprocess.run([program, tmp_path / "p.ppm"], capture_output=True, text=True, check=True)
    [first, *_] = classifier(pixels)
    percent, label = best.stdout.splitlines()[0].split("%", 1)
    assert label.strip() == first.label
    assert float(percent) == pytest.approx(100 * first.probability, abs=0.1)


def test_wrong_use(tmp_path: Path, tiny_record: ModelRecord) -> None:
    (tmp_path / "float.sqz").write_bytes(encode(random_model(tiny_record)))
    done = squeezenet("export", tmp_path / "float.sqz", "--to", "c", "--out", tmp_path / "c")
    assert (done.returncode, done.stdout) == (1, "") and "float32 alone" in done.stderr
    assert not (tmp_path / "c").exists()
    (tmp_path / "m.sqz").write_bytes(encode(random_network(0)))
    done = squeezenet("export", tmp_path / "m.sqz", "--to", "c", "--out", tmp_path)
    assert done.returncode == 2 and "expected a new or empty folder" in done.stderr
