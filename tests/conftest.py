"""Shared fixtures: small networks, small folders of images, and the real data if it is there."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import squeezenet_tiny
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import NetworkSpec, SqueezeNetSpec
from squeezenet.codec.types import CodebookWeights, CompressedLayer, CompressedModel

# A shell's background jobs ignore Ctrl-C, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# One thread: the networks are tiny, and several test processes may run at once.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("SQUEEZENET_SHARED", REPOSITORY.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data; tests that need it are skipped if it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}, which is not here")
    return SHARED


@pytest.fixture
def tiny_spec() -> SqueezeNetSpec:
    return squeezenet_tiny()


@pytest.fixture
def tiny_record(tiny_spec: SqueezeNetSpec) -> ModelRecord:
    """A record as in compressed files: without batch normalisation."""
    return record_of(dataclasses.replace(tiny_spec, batch_norm=False))


def record_of(spec: NetworkSpec) -> ModelRecord:
    return ModelRecord(
        spec=spec,
        preprocessing=default_preprocessing(spec),
        class_names=tuple(f"c{i}" for i in range(spec.num_classes)),
    )


def random_model(record: ModelRecord, seed: int = 0, density: float = 0.4) -> CompressedModel:
    """Return a compressed model with random codes, a fraction ``density`` of them non-zero."""
    from squeezenet.arch.graph import build_graph

    rng = np.random.default_rng(seed)
    layers = []
    for conv in build_graph(record.spec).convs:
        codes = rng.integers(1, 16, conv.weight_shape) * (rng.random(conv.weight_shape) < density)
        codebook = np.concatenate([[0.0], rng.normal(size=15)]).astype(np.float32)
        bias = rng.normal(size=conv.out_channels).astype(np.float32)
        weights = CodebookWeights(codes_OIHW=codes.astype(np.uint8), codebook=codebook)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias))
    return CompressedModel(record=record, layers=tuple(layers))


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Create class folders of pictures that are easy to classify: ``make(a=12, b=9)``.

    Class i has the colour i mod 3. ``size`` is (width, height).
    """

    def make(root: Path | None = None, size: tuple[int, int] = (16, 12), **counts: int) -> Path:
        root = root or tmp_path / "images"
        for label, (name, count) in enumerate(counts.items()):
            folder = root / name
            folder.mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng([label, i])
                pixels = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
                pixels[..., label % 3] += 150
                Image.fromarray(pixels).save(folder / f"{i:03}.png")
        return root

    return make


def squeezenet(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "squeezenet", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )
