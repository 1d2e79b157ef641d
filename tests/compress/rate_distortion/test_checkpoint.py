"""Checkpoints come back as they were written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_curvatures,
    save_checkpoint,
    save_curvatures,
)
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
)


def test_networks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = {
        name: QuantizedLayer(
            weight_shape=(4, 2, 1, 3),
            trellis=trellis,
            codes_OP=rng.integers(-63, 64, (4, 6)),
            scales_O=rng.uniform(size=4).astype(np.float32),
            bias_O=rng.normal(size=4),
            bias_curvature=float(rng.uniform()),
        )
        for name, trellis in (("fire2/squeeze", True), ("conv1", False))
    }
    activations = {
        "a/b": ActivationScale(scale=0.5, zero_point=7),
        "c": ActivationScale(scale=3.0, zero_point=0),
    }
    path = tmp_path / "network.npz"
    assert load_checkpoint(path) is None
    network = QuantizedNetwork(levels=levels, lambda_=0.1)
    save_checkpoint(path, Checkpoint(passes=2, network=network, activations=activations))
    found = load_checkpoint(path)
    assert found is not None
    assert (found.passes, found.network.lambda_, found.activations) == (2, 0.1, activations)
    assert list(found.network.levels) == list(levels)
    for name, layer in levels.items():
        other = found.network.levels[name]
        for field in dataclasses.fields(layer):
            a, b = getattr(layer, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(a, b)
            assert type(a) is type(b) and getattr(a, "dtype", 0) == getattr(b, "dtype", 0)


def test_curvatures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curvatures = {
        name: Curvature(
            fisher_GPP=rng.normal(size=(2, 3, 3)),
            output_GQQ=rng.normal(size=(2, 4, 4)),
            mean_GP=rng.normal(size=(2, 3)),
            moment_GPP=rng.normal(size=(2, 3, 3)),
        )
        for name in ("conv1", "fire2/squeeze")
    }
    path = tmp_path / "curvature.npz"
    assert load_curvatures(path) is None
    save_curvatures(path, curvatures)
    found = load_curvatures(path)
    assert found is not None and list(found) == list(curvatures)
    for name, curvature in curvatures.items():
        for field in dataclasses.fields(curvature):
            np.testing.assert_array_equal(
                getattr(found[name], field.name), getattr(curvature, field.name)
            )
