"""The content of a file: what its types refuse, and exact codebooks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.types import (
    ActivationScale,
    CodebookWeights,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
    exact_codebook,
)
from squeezenet.errors import WeightsError
from tests.codec.test_container import with_levels
from tests.conftest import random_model


def levels_of(*values: int, scale: float = 0.5) -> LevelWeights:
    """One output channel."""
    levels_OIHW = np.array(values, np.int8).reshape(1, -1, 1, 1)
    return LevelWeights(levels_OIHW=levels_OIHW, scales_O=np.array([scale], np.float32))


def codebook_of(*values: float, code: int = 0) -> CodebookWeights:
    codes_OIHW = np.full((1, 1, 1, 1), code, np.uint8)
    return CodebookWeights(codes_OIHW=codes_OIHW, codebook=np.array(values, np.float32))


def test_weights_of_levels_and_codebooks() -> None:
    levels = levels_of(-3, 0, 5)
    layer = CompressedLayer(name="x", weights=levels, bias_O=np.zeros(1, np.float32))
    assert layer.weights.dequantize().tolist() == [[[[-1.5]], [[0.0]], [[2.5]]]]
    assert (layer.num_weights, layer.num_nonzero) == (3, 2)
    assert levels.symbols_OIHW.ravel().tolist() == [253, 0, 5]
    assert levels.side_values.tolist() == [0.5]
    codebook = codebook_of(0.0, 1.5, code=1)
    assert codebook.dequantize().tolist() == [[[[1.5]]]]
    assert codebook.side_values.tolist() == [0.0, 1.5]


@pytest.mark.parametrize("values", [(1.0,), (), (0.0,) * 257])
def test_codebooks_begin_with_zero_and_have_at_most_256_entries(values: tuple[float, ...]) -> None:
    codebook_of(*[0.0] * 256, code=255)
    with pytest.raises(AssertionError):
        codebook_of(*values)


def test_codes_must_be_in_the_codebook() -> None:
    codebook_of(0.0, 1.0, code=1)
    with pytest.raises(AssertionError):
        codebook_of(0.0, 1.0, code=2)


def test_types_of_arrays_are_checked() -> None:
    good: dict[str, Any] = {
        "codes_OIHW": np.zeros((1, 1, 1, 1), np.uint8), "codebook": np.zeros(1, np.float32)
    }  # fmt: skip
    CodebookWeights(**good)
    for change in (
        {"codes_OIHW": np.zeros((1, 1, 1, 1), np.int8)},
        {"codes_OIHW": np.zeros((1, 1), np.uint8)},
        {"codebook": np.zeros(1, np.float64)},
    ):
        with pytest.raises(AssertionError):
            CodebookWeights(**good | change)
    good = {"levels_OIHW": np.zeros((2, 1, 1, 1), np.int8), "scales_O": np.ones(2, np.float32)}
    LevelWeights(**good)
    for change in (
        {"levels_OIHW": np.zeros((2, 1, 1, 1), np.uint8)},
        {"levels_OIHW": np.zeros((2, 1), np.int8)},
        {"scales_O": np.ones(2, np.float64)},
        {"scales_O": np.ones(3, np.float32)},
    ):
        with pytest.raises(AssertionError):
            LevelWeights(**good | change)


def test_levels_and_scales_are_checked() -> None:
    levels_of(-127, 127, scale=1 + 1 / 32)
    with pytest.raises(AssertionError):
        levels_of(-128)
    with pytest.raises(AssertionError):
        levels_of(1, scale=1 + 1 / 64)


@pytest.mark.parametrize("scale", [1 + 1 / 256, 2**-127, 0.0, -1.0, np.inf, 0.1])
def test_activation_scales_are_positive_normal_bfloat16(scale: float) -> None:
    for good in (1.0, 1 + 1 / 128, 2**-126):
        ActivationScale(scale=good, zero_point=0)
    with pytest.raises(AssertionError):
        ActivationScale(scale=scale, zero_point=0)


def test_zero_points_are_bytes() -> None:
    for zero_point in (0, 255):
        ActivationScale(scale=1.0, zero_point=zero_point)
    for zero_point in (-1, 256):
        with pytest.raises(AssertionError):
            ActivationScale(scale=1.0, zero_point=zero_point)


def test_layers_must_be_those_of_the_network(tiny_record: ModelRecord) -> None:
    model = random_model(tiny_record)
    first, *others = model.layers

    def refused(message: str, *layers: CompressedLayer) -> None:
        with pytest.raises(WeightsError, match=message):
            CompressedModel(record=tiny_record, layers=layers)

    refused("not those of the network", *model.layers[:-1])
    refused("not those of the network", *others, first)
    bias_O = first.bias_O
    for value in (np.nan, np.inf):
        wrong = dataclasses.replace(first, bias_O=np.full_like(bias_O, value))
        refused("not a finite number", wrong, *others)
    refused(r"bias has shape \(33,\)", dataclasses.replace(first, bias_O=np.ones(33)), *others)
    assert isinstance(first.weights, CodebookWeights)
    codes_OIHW = first.weights.codes_OIHW[:, :, :, :2]
    cut = CodebookWeights(codes_OIHW=codes_OIHW, codebook=first.weights.codebook)
    refused("weight has shape", dataclasses.replace(first, weights=cut), *others)
    infinite = first.weights.codebook.copy()
    infinite[1] = np.inf
    weights = CodebookWeights(codes_OIHW=first.weights.codes_OIHW, codebook=infinite)
    refused("not a finite number", dataclasses.replace(first, weights=weights), *others)


def test_batch_normalisation_must_be_folded(tiny_record: ModelRecord) -> None:
    model = random_model(tiny_record)
    spec = dataclasses.replace(tiny_record.spec, batch_norm=True)
    with pytest.raises(WeightsError, match="has batch normalisation"):
        CompressedModel(record=dataclasses.replace(tiny_record, spec=spec), layers=model.layers)


def test_activations_must_be_those_of_the_network(tiny_record: ModelRecord) -> None:
    model = with_levels(random_model(tiny_record))
    assert not model.is_integer
    scale = ActivationScale(scale=1.0, zero_point=0)
    activations = dict.fromkeys(scaled_tensors(build_graph(tiny_record.spec)), scale)
    whole = dataclasses.replace(model, activations=activations)
    assert not whole.is_integer  # with_levels leaves some layers with codebooks
    levels = [
        dataclasses.replace(
            layer,
            weights=LevelWeights(
                levels_OIHW=np.zeros(layer.weights.symbols_OIHW.shape, np.int8),
                scales_O=np.ones(len(layer.bias_O), np.float32),
            ),
        )
        for layer in model.layers
    ]
    assert dataclasses.replace(whole, layers=tuple(levels)).is_integer
    assert not dataclasses.replace(model, layers=tuple(levels)).is_integer
    for wrong in (
        {},
        dict(reversed(activations.items())),
        dict(list(activations.items())[1:]),
        activations | {"x": scale},
    ):
        with pytest.raises(WeightsError, match="activation scales of"):
            dataclasses.replace(model, activations=wrong)


def test_exact_codebook_keeps_every_bit() -> None:
    values = np.array([0.0, -0.0, 1.5, -2.25, 1e-38], np.float32)
    weight = np.random.default_rng(0).choice(values, (4, 3, 2, 2))
    coded = exact_codebook(weight)
    assert coded is not None and coded.codebook.size == 5
    assert coded.dequantize().view(np.uint32).tolist() == weight.view(np.uint32).tolist()
    many = np.arange(1, 257, dtype=np.float32).reshape(16, 16, 1, 1)
    assert exact_codebook(many) is None
    most = exact_codebook(many.reshape(-1, 1, 1, 1)[:255])
    assert most is not None and most.codebook.size == 256
    np.testing.assert_array_equal(most.dequantize().ravel(), np.arange(1, 256))
    with_zero = exact_codebook(np.arange(256, dtype=np.float32).reshape(-1, 1, 1, 1))
    assert with_zero is not None and with_zero.codebook.size == 256
