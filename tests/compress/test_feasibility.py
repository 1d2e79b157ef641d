"""Targets out of reach are refused, and none that could be reached."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import encode, read_sqz
from squeezenet.codec.model_kinds import DEFAULT_MODEL
from squeezenet.codec.types import LevelWeights
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.feasibility import min_file_bytes, require_reachable
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import UsageError
from squeezenet.images.sets import ArrayImages


def images_to_measure(number: int) -> CompressionImages:
    images = ArrayImages(
        pixels_NHWC=np.zeros((number, 8, 8, 3), np.uint8),
        labels=np.zeros(number, np.int64),
        class_names=("a", "b"),
        title="black",
    )
    return CompressionImages(retrain=images, labelled=False, measure=images, measure_labelled=False)


@pytest.mark.parametrize("max_drop", [None, 0.0, 0.56, 5.0])
def test_a_drop_of_one_image_or_of_none(tiny_record: ModelRecord, max_drop: float | None) -> None:
    images = images_to_measure(179)  # 100 / 179 = 0.5587 points each
    require_reachable(tiny_record, images, RateDistortionSettings(), max_drop)


@pytest.mark.parametrize("max_drop", [0.1, 0.55, -1.0])
def test_a_drop_below_one_image(tiny_record: ModelRecord, max_drop: float) -> None:
    images = images_to_measure(179)
    with pytest.raises(UsageError, match=r"0.56 points; expected 0 or at least 0.56"):
        require_reachable(tiny_record, images, RateDistortionSettings(), max_drop)


@pytest.mark.parametrize("kind", [RateDistortionSettings, DeepCompressionSettings])
def test_size_at_the_bound(
    tiny_record: ModelRecord, kind: type[RateDistortionSettings | DeepCompressionSettings]
) -> None:
    images = images_to_measure(100)
    least = min_file_bytes(tiny_record, kind(target_bytes=900))
    assert 500 < least < 1000
    require_reachable(tiny_record, images, kind(target_bytes=least))
    with pytest.raises(UsageError, match=f"alone take {least} bytes"):
        require_reachable(tiny_record, images, kind(target_bytes=least - 1))


def test_bound_is_below_a_real_file_without_its_levels() -> None:
    """Of the network that comes with the package: real scales and biases, no weight but zero."""
    model = read_sqz(DEFAULT_MODEL)
    layers = []
    for layer in model.layers:
        assert isinstance(layer.weights, LevelWeights)
        levels_OIHW = np.zeros_like(layer.weights.levels_OIHW)
        weights = dataclasses.replace(layer.weights, levels_OIHW=levels_OIHW)
        layers.append(dataclasses.replace(layer, weights=weights))
    emptied = len(encode(dataclasses.replace(model, layers=tuple(layers))))
    source = dataclasses.replace(model.record, provenance=model.record.provenance["source"])
    least = min_file_bytes(source, RateDistortionSettings(target_bytes=90_000))
    assert 1000 < least < emptied < 6000
