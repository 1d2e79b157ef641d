"""A temperature in the last layer divides all logits, whatever follows it."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from squeezenet.arch.presets import preset
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.model.init import initialise
from squeezenet.model.loaded import LoadedModel, from_state
from squeezenet.model.network import build_module
from squeezenet.model.temperature import with_tempered_head
from tests.conftest import record_of


@pytest.mark.parametrize("last_relu", [False, True])
def test_what_is_stored_is_divided_and_what_is_predicted_stays(last_relu: bool) -> None:
    spec = preset("squeezenet_tiny", batch_norm=False)
    assert isinstance(spec, SqueezeNetSpec)
    spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, last_relu=last_relu))
    module = build_module(spec)
    initialise(module, spec, "he", 0)
    model = LoadedModel(record=record_of(spec), module=module)
    shape = (3, spec.input_channels, *spec.input_size)
    x_NCHW = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = model.logits(x_NCHW)
    assert np.abs(before).max() > 0
    tempered = with_tempered_head(model, 1.7)
    for each in (tempered, dataclasses.replace(tempered, module=copy.deepcopy(tempered.module))):
        np.testing.assert_allclose(each.logits(x_NCHW), before, rtol=1e-5, atol=1e-7)
    stored = from_state(model.record, tempered.module.state_dict(), "stored").logits(x_NCHW)
    np.testing.assert_allclose(stored, before / 1.7, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(model.logits(x_NCHW), before)  # the model itself stays
    assert with_tempered_head(model, 1.0) is model
