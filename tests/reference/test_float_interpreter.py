"""The float interpreter beside torch, on every operation and on odd shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from squeezenet.arch.presets import alexnet, preset
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import AlexNetSpec, HeadSpec, NetworkSpec, PoolSpec, SqueezeNetSpec
from squeezenet.codec import container
from squeezenet.model.load import from_compressed
from squeezenet.reference.float_interpreter import FloatInterpreter
from tests.conftest import random_model, record_of


def small_alexnet() -> AlexNetSpec:
    base = alexnet()
    convs = tuple(
        dataclasses.replace(conv, out_channels=conv.out_channels // 16) for conv in base.convs
    )
    return dataclasses.replace(
        base, convs=convs, hidden=(12, 10), num_classes=7, input_size=(67, 67), dropout=0.0
    )


def networks() -> dict[str, NetworkSpec]:
    v1_1 = preset("squeezenet1_1", num_classes=9, input_size=(35, 50))
    bypass = preset("squeezenet1_1_complex_bypass", num_classes=5, input_size=(33, 41))
    assert isinstance(v1_1, SqueezeNetSpec)
    padded = dataclasses.replace(v1_1, head=HeadSpec(padding=1, last_relu=True))
    floor = tuple(PoolSpec(after=p.after, kernel=2, ceil_mode=False) for p in v1_1.pools)
    return {
        "v1.1": v1_1,
        "small input": preset("squeezenet1_1", num_classes=9, input_size=(32, 32)),
        "complex bypass": bypass,
        "padded head with ReLU": padded,
        "floor pools": dataclasses.replace(v1_1, pools=floor),
        "tiny": preset("squeezenet_tiny", batch_norm=False),
        "alexnet": small_alexnet(),
    }


@pytest.mark.parametrize("max_window_values", [1 << 24, 3000, 1])
@pytest.mark.parametrize("name", networks())
def test_equals_torch(name: str, max_window_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a convolution is computed by rows."""
    monkeypatch.setattr(
        "squeezenet.reference.float_interpreter._MAX_WINDOW_VALUES", max_window_values
    )
    record = record_of(networks()[name])
    model = random_model(record)
    # Through the file format, as every model of a user.
    model = container.decode(container.encode(model))
    x_NCHW = (
        np.random.default_rng(1)
        .normal(size=(3, record.spec.input_channels, *record.spec.input_size))
        .astype(np.float32)
    )
    ours = FloatInterpreter(model)(x_NCHW)
    torchs = from_compressed(model).logits(x_NCHW)
    assert ours.shape == (3, record.spec.num_classes)
    scale = np.abs(torchs).max()
    np.testing.assert_allclose(ours / scale, torchs / scale, atol=2e-5)


def test_a_batch_equals_its_images_one_by_one(tiny_record: ModelRecord) -> None:
    model = random_model(tiny_record)
    x = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    interpreter = FloatInterpreter(model)
    together = interpreter(x)
    alone = np.concatenate([interpreter(x[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(together, alone)
