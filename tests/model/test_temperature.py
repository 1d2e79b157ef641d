"""A temperature in the last layer divides all logits, whatever follows it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from squeezenet.arch.presets import preset
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.model.init import initialise
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.network import build_module
from squeezenet.model.temperature import with_temperature
from tests.conftest import record_of


@pytest.mark.parametrize("last_relu", [False, True])
def test_logits_are_divided(last_relu: bool) -> None:
    spec = preset("squeezenet_tiny")
    assert isinstance(spec, SqueezeNetSpec)
    spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, last_relu=last_relu))
    module = build_module(spec)
    initialise(module, spec, "he", 0)
    model = LoadedModel(record=record_of(spec), module=module)
    shape = (3, spec.input_channels, *spec.input_size)
    x_NCHW = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = model.logits(x_NCHW)
    after = with_temperature(model, 1.7).logits(x_NCHW)
    np.testing.assert_allclose(after, before / 1.7, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.logits(x_NCHW), before)  # the model itself stays
    assert with_temperature(model, 1.0) is model
