"""Calibration: the best scales that INTEGER.md allows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from squeezenet.arch.graph import Add, Conv, build_graph
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.quantized_tensors import scaled_tensors, source_of_scale
from squeezenet.codec.numerics import round_activation_scale, round_biases, round_scales
from squeezenet.codec.types import ActivationScale, CompressedLayer, CompressedModel, LevelWeights
from squeezenet.compress.calibrate import (
    CONV_MARGIN,
    MAX_ADD_RATIO,
    RANGE_SHARES,
    best_scale,
    calibrated,
    smallest_scale,
)
from squeezenet.errors import LimitError
from squeezenet.reference.integer_parameters import integer_parameters
from tests.compress.conftest import CountedProgress, digit_batches, untrained_model
from tests.conftest import record_of


def error(values: np.ndarray, scale: float, zero_point: int) -> float:
    q = (np.rint(values / scale) + zero_point).clip(0, 255)
    return float(np.square((q - zero_point) * scale - values.astype(np.float64)).mean())


def test_values_without_outliers_keep_their_range() -> None:
    values = np.linspace(-1, 3, 4001, dtype=np.float32)
    found = best_scale(values)
    assert found.scale == round_activation_scale(4 / 255)
    assert found.zero_point == round(1 / found.scale) == 64
    positive, negative = best_scale(values[values > 0.5]), best_scale(-values[values > 0.5])
    assert (positive.scale, positive.zero_point) == (round_activation_scale(3 / 255), 0)
    assert negative.scale == positive.scale and negative.zero_point == 255


def test_outliers_are_clipped_where_that_is_best() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.laplace(size=20_000), np.abs(rng.laplace(size=20_000)), rng.normal(size=99)):
        values = values.astype(np.float32)
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        errors = []
        for share in RANGE_SHARES:
            scale = round_activation_scale(share * (high - low) / 255)
            zero_point = min(255, max(0, round(-share * low / scale)))
            errors.append((error(values, scale, zero_point), scale, zero_point))
        found = best_scale(values)
        assert (found.scale, found.zero_point) == min(errors)[1:]
    values = rng.laplace(size=20_000).astype(np.float32)
    assert best_scale(values).scale < 0.95 * float(np.ptp(values)) / 255
    assert RANGE_SHARES[0] == 0.25 and RANGE_SHARES[-1] == 1.0 and len(RANGE_SHARES) == 29


def test_scales_are_at_least_what_is_asked() -> None:
    values = np.linspace(-1, 3, 401, dtype=np.float32)
    for min_scale in (0.5, 0.1234, 0.7071, 1 / 3, 0.99999):
        found = best_scale(values, min_scale)
        assert min_scale <= found.scale <= min_scale * (1 + 2**-6)
        assert (
            found.zero_point == round(max(1 / found.scale, 0)) or found.zero_point <= 2 / min_scale
        )
    assert best_scale(values, 1e-9) == best_scale(values)


def test_a_tensor_of_zeros_has_a_scale() -> None:
    found = best_scale(np.zeros(5, np.float32))
    assert found.scale >= np.finfo(np.float32).tiny and found.zero_point == 0


def quantized_tiny(loud: str = "") -> CompressedModel:
    """Random levels. An output of the layer ``loud`` has a large scale, and no levels."""
    rng = np.random.default_rng(0)
    spec = dataclasses.replace(untrained_model().record.spec, batch_norm=False)
    record = dataclasses.replace(record_of(spec), class_names=tuple("0123456789"))
    layers = []
    for conv in build_graph(spec).convs:
        levels = np.rint(rng.laplace(0, 2, conv.weight_shape)).clip(-127, 127).astype(np.int8)
        scales_O = round_scales(np.full(conv.out_channels, 0.5 / np.sqrt(levels[0].size)))
        if conv.name == loud:
            levels[1], scales_O[1] = 0, 64.0
        layers.append(
            CompressedLayer(
                name=conv.name,
                weights=LevelWeights(levels_OIHW=levels, scales_O=scales_O),
                bias_O=round_biases(rng.normal(0, 0.1, conv.out_channels), 2**-10),
            )
        )
    return CompressedModel(record=record, layers=tuple(layers))


def test_a_calibrated_model_always_has_multipliers_below_1() -> None:
    """M = source scale * weight scale / target scale < 1 (spec/INTEGER.md)."""
    batches = digit_batches(untrained_model(), count=32)
    model = quantized_tiny()
    integer_parameters(calibrated(model, batches))
    for conv in build_graph(model.record.spec).convs:
        if conv.name not in ("conv1", "fire3/expand3x3"):
            continue
        found = calibrated(quantized_tiny(conv.name), batches)
        integer_parameters(found)
        # The bound is what does it: with a scale a little smaller, the file is refused.
        assert found.activations is not None
        scale = found.activations[conv.target]
        smaller = dataclasses.replace(scale, scale=round_activation_scale(scale.scale * 0.97))
        activations = {**found.activations, conv.target: smaller}
        with pytest.raises(LimitError):
            integer_parameters(dataclasses.replace(found, activations=activations))


def test_scales_fit_the_activations() -> None:
    model, batches = quantized_tiny(), digit_batches(untrained_model(), count=32)
    found = calibrated(model, batches)
    graph = build_graph(model.record.spec)
    assert found.activations is not None and tuple(found.activations) == scaled_tensors(graph)
    for conv in graph.convs:
        if conv.target in found.activations and conv.relu:
            assert found.activations[conv.target].zero_point == 0
    progress = CountedProgress()
    again = calibrated(model, batches, progress=progress)
    assert progress.totals == progress.advanced == [32]
    assert again.activations == found.activations
    assert calibrated(model, digit_batches(untrained_model(), count=64)).activations != (
        found.activations
    )


def bypassed() -> CompressedModel:
    spec = preset("squeezenet1_1_simple_bypass", num_classes=2, batch_norm=False)
    prep = default_preprocessing(spec)
    record = dataclasses.replace(record_of(spec), preprocessing=prep)
    layers = []
    for conv in build_graph(spec).convs:
        weights = LevelWeights(
            levels_OIHW=np.zeros(conv.weight_shape, np.int8),
            scales_O=round_scales(np.linspace(0.25, 0.5, conv.out_channels)),
        )
        layers.append(
            CompressedLayer(
                name=conv.name,
                weights=weights,
                bias_O=np.zeros(conv.out_channels, np.float32),
            )
        )
    return CompressedModel(record=record, layers=tuple(layers))


def test_the_smallest_scale_of_each_tensor() -> None:
    model = bypassed()
    graph = build_graph(model.record.spec)
    own = source_of_scale(graph)
    rng, known = np.random.default_rng(0), {}
    num_adds = 0
    for name in scaled_tensors(graph):
        writers = [op for op in graph.operations if op.target == name]
        found = smallest_scale(name, model, graph, known)
        if isinstance(writers[0], Add):
            num_adds += 1
            sources = [known[own[writers[0].source]], known[own[writers[0].other]]]
            assert found == max(s.scale for s in sources) / MAX_ADD_RATIO
        else:
            assert all(isinstance(op, Conv) for op in writers)
            source = writers[0].source
            scale = 1 / min(model.record.preprocessing.std)
            if source != graph.input:
                scale = known[own[source]].scale
            assert found == pytest.approx(CONV_MARGIN * scale * 0.5)
        scale = round_activation_scale(float(np.exp(rng.normal(0, 2))))
        known[name] = ActivationScale(scale=scale, zero_point=0)
    assert num_adds == 4
    assert 1 < CONV_MARGIN < 1.01 and MAX_ADD_RATIO < 32


def test_a_tensor_of_two_convolutions_takes_the_larger_bound() -> None:
    """Expand convolutions share their target: the larger of their scales counts."""
    model = quantized_tiny()
    graph = build_graph(model.record.spec)
    known = {name: ActivationScale(scale=1.0, zero_point=0) for name in scaled_tensors(graph)}
    by_name = {layer.name: layer for layer in model.layers}
    shared = next(name for name in known if sum(op.target == name for op in graph.operations) == 2)
    wanted = [
        float(by_name[op.name].weights.scales_O.max())  # type: ignore[union-attr]
        for op in graph.operations
        if op.target == shared
    ]
    assert wanted[0] != wanted[1]
    assert smallest_scale(shared, model, graph, known) == pytest.approx(1.001 * max(wanted))
