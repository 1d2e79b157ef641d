"""Small files with large networks: every command within a limit of memory, by the system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from squeezenet.errors import DataError
from tests.conftest import REPOSITORY, squeezenet

sys.path.insert(0, str(REPOSITORY / "attacks"))
from models import zero_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs limits of POSIX")
LIMIT_BYTES = 700_000_000
"""What Python, NumPy and matplotlib reserve is half of it."""
NUM_CLASSES = 1 << 16


def limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def run(folder: Path, *arguments: str) -> str:
    """Run a command within the limit; it must end well."""
    done = squeezenet(
        *arguments,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=limit_memory,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("c0", "c7"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 80 * i).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "info m.sqz --json",
        "predict m.sqz data/c0/0.png --top 3",
        "eval m.sqz data --against m.sqz",
        "report m.sqz data --out report",
        "convert m.sqz out.sqz",
        "convert m.sqz out.sqz --coder huffman",
        "export m.sqz --to c --out folder",
    ],
)
def test_a_file_of_very_many_classes(data: Path, command: str) -> None:
    """113 KB; a confusion matrix of all pairs of classes would have 32 GB."""
    (data / "m.sqz").write_bytes(zero_model(width=1, num_classes=NUM_CLASSES))
    run(data, *command.split())
    if command.startswith("report"):
        card = (data / "report" / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "| c7 | 3 | 0.0% | - |" in card and "| c7 | c0 | 3 of 3 |" in card
        svg = (data / "report" / "confusion.svg").read_text(encoding="utf-8")
        assert "40 of 65,536 classes with most mistakes" in svg and ">c7<" in svg


@pytest.mark.parametrize(
    "command",
    ["info m.sqz", "predict m.sqz data/c0/0.png", "convert m.sqz out.sqz --coder huffman"],
)
def test_a_file_of_very_many_weights(data: Path, command: str) -> None:
    """28 KB with 61 million weights: a byte each, held at most twice."""
    (data / "m.sqz").write_bytes(zero_model(width=2600, num_classes=2))
    run(data, *command.split())


def test_predictions_of_many_images_in_many_classes_are_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any image is read; the logits of a set are held."""
    import squeezenet.evaluation.predict as module
    from squeezenet.cli.app import run as cli

    model = data / "m.sqz"
    model.write_bytes(zero_model(width=1, num_classes=10))
    monkeypatch.setattr(module, "MAX_LOGITS_BYTES", 6 * 10 * 4 - 1)
    assert cli(["eval", str(model), str(data / "data")]) == DataError.exit_code
    monkeypatch.setattr(module, "MAX_LOGITS_BYTES", 6 * 10 * 4)
    assert cli(["eval", str(model), str(data / "data")]) == 0
