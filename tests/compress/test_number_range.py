"""Numbers at the edge: dead, denormal and exploding channels are compressed, or refused by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from squeezenet.compress.number_range import (
    MAX_OUTPUT,
    require_bounded_outputs,
    without_denormals,
)
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.report import CompressionReport
from squeezenet.compress.run import compress_model
from squeezenet.errors import WeightsError
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from tests.compress.conftest import OPTIONS, digit_batches, digit_images, untrained_model

Change = Callable[[nn.Module], object]


def changed(change: Change) -> LoadedModel:
    model = untrained_model(batch_norm=False)
    with torch.no_grad():
        change(model.module)
    return model


def conv(module: nn.Module, index: int) -> nn.Conv2d:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)][index]


def channel(factor: float, bias: float = 0.0, layer: int = 2) -> Change:
    """One output channel with other weights and bias."""

    def change(module: nn.Module) -> None:
        conv(module, layer).weight[0] *= factor
        conv(module, layer).bias[0] = bias  # type: ignore[index]

    return change


def compressed(model: LoadedModel, folder: Path) -> CompressionReport:
    images = digit_images(model)
    few = dataclasses.replace(
        images,
        retrain=images.retrain.subset(range(0, len(images.retrain), 12)),
        measure=images.measure.subset(range(0, len(images.measure), 6)),
    )
    settings = RateDistortionSettings(effort="low", divergence=0.01)
    return compress_model(
        model, few, folder / "m.sqz", settings, recipe_named("digits"), options=OPTIONS
    )


@pytest.mark.parametrize(
    "change",
    [
        *(channel(10.0**e, bias) for e in (-5, -20, -37, -40, -44) for bias in (0.0, 0.5)),
        channel(0.0),
        channel(0.0, -5.0),
        channel(1e-20, 0.5, layer=-1),
        channel(1e-20, 0.5, layer=0),
        lambda module: conv(module, 1).weight.zero_(),
        lambda module: conv(module, 1).weight.mul_(1e-30),
        lambda module: conv(module, -1).weight.zero_(),
        lambda module: [conv(module, i).weight.zero_() for i in range(14)],
    ],
)
def test_dead_and_denormal_channels_are_compressed(change: Change, tmp_path: Path) -> None:
    report = compressed(changed(change), tmp_path)
    assert report.comparison.kl < 0.02
    assert report.file_bytes < 3_000


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (channel(1e10), "fire2/expand1x1"),
        (channel(1e30), "fire2/expand1x1"),
        (channel(1.0, 1e30), "fire2/expand1x1"),
        (channel(1e7), "conv10?"),
        (lambda module: conv(module, 0).weight.mul_(1e30), "conv1"),
        (lambda module: conv(module, 1).weight.mul_(1e15), "fire2/squeeze"),
        (lambda module: conv(module, -1).weight.mul_(1e30), "conv10"),
        (lambda module: conv(module, -1).bias.fill_(1e38), "conv10"),  # type: ignore[union-attr]
    ],
)
def test_exploding_channels_are_refused_by_the_name_of_the_layer(
    change: Change, layer: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=f"squeezenet_tiny: {layer}: "):
        compressed(changed(change), tmp_path)
    assert not (tmp_path / "m.sqz").exists()


def test_denormals_become_zero_and_nothing_else_changes() -> None:
    model = changed(channel(1e-38))
    weight = conv(model.module, 2).weight
    tiny = torch.finfo(torch.float32).tiny
    denormal = (weight != 0) & (weight.abs() < tiny)
    assert denormal.any()
    clean = conv(without_denormals(model).module, 2).weight
    assert torch.equal(clean, torch.where(denormal, 0.0, weight))
    assert denormal.any()
    plain = changed(lambda module: None)
    assert without_denormals(plain) is plain


def test_the_limits_of_outputs_and_logits() -> None:
    model = changed(lambda module: None)
    batches = digit_batches(model, count=4)
    require_bounded_outputs(model, batches)
    with pytest.raises(WeightsError, match="conv10: logits reach"):
        require_bounded_outputs(model, batches, max_logit=1e-6)
    require_bounded_outputs(changed(channel(0.0, 0.1 * MAX_OUTPUT)), batches)
    for value in (1.1 * MAX_OUTPUT, math.inf, math.nan):
        with pytest.raises(WeightsError, match="fire2/expand1x1: outputs reach"):
            require_bounded_outputs(changed(channel(0.0, value)), batches)
