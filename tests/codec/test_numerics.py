"""Rounding to the numbers that a file stores exactly, at the edges of their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from squeezenet.codec.numerics import (
    MAX_BIAS,
    bias_shift,
    mantissa_bits,
    round_activation_scale,
    round_biases,
    round_mantissa,
    round_scales,
    scales_around,
)
from squeezenet.errors import WeightsError


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ((), 0),
        ((0.0, 1.0, -4.0), 0),
        ((1.5,), 1),
        ((1.5, -1.25), 2),
        ((1.03125,), 5),
        ((1 + 2**-23,), 23),
        ((1.5, 1 + 2**-22), 22),
    ],
)
def test_mantissa_bits(values: tuple[float, ...], bits: int) -> None:
    assert mantissa_bits(floats(*values)) == bits


def test_mantissas_are_rounded_half_away_from_zero() -> None:
    half = 1 + 1 / 64
    values = floats(half, -half, half - 2**-20, 1.99, 3.0)
    expected = floats(1 + 1 / 32, -1 - 1 / 32, 1.0, 2.0, 3.0)
    np.testing.assert_array_equal(round_mantissa(values, 5), expected)
    exact = floats(np.pi, -1e-30, 0.0)
    np.testing.assert_array_equal(round_mantissa(exact, 23), exact)


def test_scales_have_five_mantissa_bits() -> None:
    values = np.geomspace(1e-6, 1e3, 200)
    scales_O = round_scales(values)
    assert mantissa_bits(scales_O) == 5 and scales_O.dtype == np.float32
    # Neighbours differ by at least 1/64 and at most 1/32 of a value.
    assert np.abs(scales_O / values - 1).max() < 1 / 64
    np.testing.assert_array_equal(round_scales(scales_O), scales_O)


def test_scales_around() -> None:
    np.testing.assert_array_equal(scales_around(0.99, 5), floats(61, 62, 63, 64, 66) / 64)
    np.testing.assert_array_equal(scales_around(1.0, 1), floats(1.0))
    smallest, largest = np.array([1 << 18, 0x7F7C0000], np.uint32).view(np.float32)
    lowest = scales_around(0.0, 3)
    assert lowest[0] == smallest and (np.diff(lowest) > 0).all()
    assert scales_around(float(smallest), 3)[0] == smallest
    highest = scales_around(3.4e38, 17)
    assert highest.size == 17 and highest[-1] == largest
    assert scales_around(float(largest), 3)[-1] == largest


def test_activation_scales_are_bfloat16() -> None:
    assert round_activation_scale(1 + 1 / 256) == 1 + 1 / 128
    assert round_activation_scale(1 + 1 / 257) == 1.0
    assert round_activation_scale(0.75) == 0.75


@pytest.mark.parametrize(
    ("values", "shift"),
    [
        ((), 0),
        ((3.0, -2.0), 0),
        ((0.5, -0.75), 2),
        ((float(MAX_BIAS),), 0),
        ((2**-30, -(2**-6)), 30),
        ((2**-30 * MAX_BIAS, 2**-30), 30),
    ],
)
def test_bias_shift(values: tuple[float, ...], shift: int) -> None:
    assert bias_shift(floats(*values)) == shift


@pytest.mark.parametrize("values", [(2.0 * MAX_BIAS,), (2**-31,), (0.1, 1e6), (2**-30, 1.0)])
def test_biases_that_a_file_cannot_store(values: tuple[float, ...]) -> None:
    with pytest.raises(WeightsError, match="use round_biases"):
        bias_shift(floats(*values))


@pytest.mark.parametrize(
    ("step", "power"),
    [(0.01, 2**-7), (2**-7, 2**-7), (1.0, 1.0), (5.0, 1.0), (2**-40, 2**-30)],
)
def test_biases_are_rounded_to_a_power_of_two_up_to_the_step(step: float, power: float) -> None:
    bias_O = np.array([0.3, -7.77, 0.0]) * min(1.0, power * 2**20)
    rounded = round_biases(bias_O, step)
    assert rounded.dtype == np.float32 and (rounded / power == np.rint(rounded / power)).all()
    assert np.abs(rounded - bias_O).max() <= power / 2
    np.testing.assert_array_equal(round_biases(rounded, step), rounded)


def test_rounded_biases_are_clipped_and_have_no_negative_zero() -> None:
    rounded = round_biases(np.array([1e9, -1e9, -1e-9, 2.5, 3.5]), 2**-10)
    assert rounded.tolist() == [MAX_BIAS / 1024, -MAX_BIAS / 1024, 0.0, 2.5, 3.5]
    assert not np.signbit(rounded[2])
    assert bias_shift(rounded) == 1
    halves = round_biases(np.array([0.5, 1.5, -2.5]), 1.0)
    assert halves.tolist() == [0.0, 2.0, -2.0]  # to even
