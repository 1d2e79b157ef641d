"""The integer constants by hand, and the limits of spec/INTEGER.md at their edges."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import ConvSpec, FireSpec, SqueezeNetSpec
from squeezenet.codec.types import ActivationScale, CompressedLayer, CompressedModel, LevelWeights
from squeezenet.errors import FloatOnlyError, LimitError
from squeezenet.reference.integer_interpreter import IntegerInterpreter
from squeezenet.reference.integer_parameters import integer_parameters, round_half_away

SPEC = SqueezeNetSpec(
    name="n",
    stem=ConvSpec(out_channels=2, kernel=1),
    fires=(FireSpec(s1x1=1, e1x1=1, e3x3=1, bypass="identity"),),
    pools=(),
    num_classes=2,
    input_size=(1, 1),
)
PREPROCESSING = Preprocessing(
    resize=1, crop=(1, 1), channels="RGB", mean=(0.0, 64.0, 128.0), std=(2.0, 4.0, 8.0)
)


def model(
    *, scale: float = 0.5, head_scale: float = 2**-6, level: int = 1, **scales: float
) -> CompressedModel:
    """All levels ``level``, weight scales ``scale``, biases 1; activation scales 1, zero points 3.

    ``scales`` are other activation scales, by the tensor's name.
    """
    record = ModelRecord(spec=SPEC, preprocessing=PREPROCESSING, class_names=("a", "b"))
    layers = []
    for name, shape in (
        ("conv1", (2, 3, 1, 1)),
        ("fire2/squeeze", (1, 2, 1, 1)),
        ("fire2/expand1x1", (1, 1, 1, 1)),
        ("fire2/expand3x3", (1, 1, 3, 3)),
        ("conv10", (2, 2, 1, 1)),
    ):
        layer_scale = head_scale if name == "conv10" else scale
        weights = LevelWeights(
            levels_OIHW=np.full(shape, level, np.int8),
            scales_O=np.full(shape[0], layer_scale, np.float32),
        )
        layers.append(
            CompressedLayer(name=name, weights=weights, bias_O=np.ones(shape[0], np.float32))
        )
    activations = {
        name: ActivationScale(scale=scales.get(name.replace("/", "_"), 1.0), zero_point=3)
        for name in ("conv1", "fire2/squeeze", "fire2/expand", "fire2")
    }
    return CompressedModel(record=record, layers=tuple(layers), activations=activations)


def test_input() -> None:
    found = integer_parameters(model()).input
    # The smallest deviation, 2, is the unit: A = 65536 * 2 / std, Z = mean * A.
    assert found.multiplier_C == (65536, 32768, 16384)
    assert found.zero_point_C == (0, 32 * 65536, 32 * 65536)
    assert found.padding_C == (0, 32, 32)
    assert found.scale == Fraction(1, 2)


def test_convolutions() -> None:
    parameters = integer_parameters(model())
    first = parameters.convs["conv1"]
    # An accumulator counts in 0.5 * 0.5; the bias 1 is 4 of these, the zero points 0 + 32 + 32.
    assert first.bias_O.tolist() == [4 - 64, 4 - 64]
    # M = 0.25: m / 2^(15 + s) with the smallest s for which m is at least 2^11.
    assert (first.multiplier_O.tolist(), first.shift_O.tolist()) == ([8192, 8192], [0, 0])
    assert (first.zero_point, first.low) == (3, 3)
    inner = parameters.convs["fire2/expand3x3"]
    assert inner.bias_O.tolist() == [2 - 9 * 3]
    head = parameters.convs["conv10"]
    assert (head.zero_point, head.low) == (None, 0)
    # M = 2^-6: the smallest s with M * 2^(16 + s) at least 2^14 is 4.
    assert (head.multiplier_O.tolist(), head.shift_O.tolist()) == ([16384, 16384], [4, 4])
    assert parameters.padding["fire2/expand"] == (3,)


def test_additions() -> None:
    found = integer_parameters(model(fire2=2.0)).adds["fire2/add"]
    assert (found.ratios, found.source_zero_points, found.zero_point) == ((32768, 32768), (3, 3), 3)


def test_the_whole_network_by_hand() -> None:
    [logits] = IntegerInterpreter(model()).integer_logits(np.full((1, 1, 1, 3), 130, np.uint8))
    # Input (130, 65, 33): 32.5 rounds up. conv1: (130 + 65 + 33 - 60) / 4 + 3 = 45.
    # squeeze: (90 + 2 - 6) / 2 + 3 = 46. Both expands: (46 - 3) / 2 + 1 + 3 = 25.5, rounds to 26.
    # Addition: 3 + 23 + 42 = 68, twice. Head: (2 * 65 + 64) * 2^-6, times 65536.
    assert logits.tolist() == [(2 * 65 + 64) << 10] * 2


def test_rounding_halves_away_from_zero() -> None:
    halves = [Fraction(k, 2) for k in (-3, -1, 0, 1, 3)]
    assert [round_half_away(value) for value in halves] == [-2, -1, 0, 1, 2]
    assert round_half_away(Fraction(-49, 100)) == 0


def test_limits() -> None:
    integer_parameters(model(scale=0.96875, head_scale=0.484375))
    with pytest.raises(LimitError, match="squeeze: the scales .* give M = 1, expected below 1$"):
        integer_parameters(model(scale=1.0))
    with pytest.raises(LimitError, match=r"conv10: the scales .* M = 0\.5, expected below 0\.5$"):
        integer_parameters(model(head_scale=0.5))
    with pytest.raises(LimitError, match="fire2/add: .* R = 2097152, expected below 2097152"):
        integer_parameters(model(fire2=2**-5))
    with pytest.raises(LimitError, match="conv1: accumulator of output channel 0 reaches"):
        integer_parameters(model(scale=2**-32))


def test_float_only_models_are_refused() -> None:
    with pytest.raises(FloatOnlyError, match="no activation scales"):
        integer_parameters(dataclasses.replace(model(), activations=None))
