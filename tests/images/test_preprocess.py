"""The resize beside a slow transcription of its definition; crop, channels and normalisation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from squeezenet import _native
from squeezenet.arch.preprocessing import (
    Preprocessing,
    caffe_preprocessing,
    torchvision_preprocessing,
)
from squeezenet.images.preprocess import crop_pixels, normalise, order_channels
from squeezenet.images.resize import filter_taps, resize, resize_rectangle


def slow_resize_rows(pixels: np.ndarray, m: int) -> np.ndarray:
    """The definition in the module's docstring, one number at a time, in Python integers."""
    n = len(pixels)
    if n == m:
        return pixels
    out = np.zeros((m, *pixels.shape[1:]), np.uint8)
    for i in range(m):
        raw = [max(0, 2 * max(m, n) - abs((2 * j + 1) * m - (2 * i + 1) * n)) for j in range(n)]
        total = sum(raw)
        running = [(2 * sum(raw[:j]) * 2**14 + total) // (2 * total) for j in range(n + 1)]
        weights = [b - a for a, b in pairwise(running)]
        for place in np.ndindex(*pixels.shape[1:]):
            value = sum(w * int(pixels[(j, *place)]) for j, w in enumerate(weights))
            out[(i, *place)] = (value + 2**13) >> 14
    return out


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12),
    st.integers(0, 2**31),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_resize_equals_its_definition(h: int, w: int, height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    columns_first = slow_resize_rows(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
    expected = slow_resize_rows(columns_first, height)
    np.testing.assert_array_equal(resize(pixels, height, width), expected)


@given(st.integers(1, 3000), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_weights_sum_to_one(n: int, m: int) -> None:
    firsts, weights = filter_taps(n, m, 0, m)
    assert (weights.sum(axis=1) == 1 << 14).all()
    assert weights.min() >= 0 and (np.diff(firsts) >= 0).all()


def test_a_window_equals_that_part_of_the_full_resize() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        h, w, height, width = rng.integers(1, 60, 4).tolist()
        pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        top, left = int(rng.integers(height)), int(rng.integers(width))
        rows, columns = (
            int(rng.integers(1, height - top + 1)),
            int(rng.integers(1, width - left + 1)),
        )
        expected = resize(pixels, height, width)[top : top + rows, left : left + columns]
        np.testing.assert_array_equal(
            resize(pixels, height, width, (top, left, rows, columns)), expected
        )


SIDE = st.integers(1, 70)


@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 2**31))
@settings(deadline=None, max_examples=200)
def test_the_resize_in_c_gives_the_same_bytes(
    h: int, w: int, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)

    def part(rows: int, columns: int) -> tuple[int, int, int, int]:
        top, left = int(rng.integers(rows)), int(rng.integers(columns))
        return (
            top,
            left,
            int(rng.integers(1, rows - top + 1)),
            int(rng.integers(1, columns - left + 1)),
        )

    rectangle, window = part(h, w), part(height, width)
    top, left, rows, columns = rectangle
    expected = resize(pixels[top : top + rows, left : left + columns], height, width, window)
    found = resize_rectangle(pixels, rectangle, height, width, window)
    np.testing.assert_array_equal(found, expected)
    mirrored = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]  # not contiguous
    np.testing.assert_array_equal(
        resize_rectangle(mirrored, rectangle, height, width, window), expected
    )


def test_the_resize_in_c_of_large_and_long_pictures() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1203, 1601), (2, 9000), (9000, 2), (1, 1)):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        np.testing.assert_array_equal(
            resize_rectangle(pixels, (0, 0, *shape), 224, 227), resize(pixels, 224, 227)
        )
    long = np.full((40_000, 4, 3), 7, np.uint8)
    window = (1_000_000, 20, 224, 224)
    found = resize_rectangle(long, (0, 0, 40_000, 4), 2_560_000, 256, window)
    assert found.shape == (224, 224, 3) and (found == 7).all()


@pytest.mark.parametrize(
    ("size", "rectangle", "resized", "window", "out_bytes"),
    [
        ((4, 5), (0, 0, 4, 5), (2, 2), (0, 0, 2, 2), 11),  # out is too small
        ((4, 6), (0, 0, 4, 5), (2, 2), (0, 0, 2, 2), 12),  # another size than the picture's
        ((4, 5), (1, 0, 4, 5), (2, 2), (0, 0, 2, 2), 12),  # rectangles that leave the picture
        ((4, 5), (0, 1, 4, 5), (2, 2), (0, 0, 2, 2), 12),
        ((4, 5), (5, 0, 1, 5), (2, 2), (0, 0, 2, 2), 12),
        ((4, 5), (0, 0, 0, 5), (2, 2), (0, 0, 2, 2), 12),  # without rows
        ((4, 5), (0, 0, 4, 5), (0, 2), (0, 0, 2, 2), 12),
        ((4, 5), (0, 0, 4, 5), (2, 2), (1, 0, 2, 2), 12),  # windows that leave the result
        ((4, 5), (0, 0, 4, 5), (2, 2), (0, 2**32 - 1, 2, 2), 12),
        ((4, 5), (0, 0, 4, 5), (2, 2), (0, 0, 2, 0), 0),
        ((4, 5), (0, 0, 4, 5), (2**31, 2), (0, 0, 2, 2), 12),  # beyond the limit
    ],
)
def test_wrong_use_of_the_resize_in_c(
    size: tuple[int, int],
    rectangle: tuple[int, int, int, int],
    resized: tuple[int, int],
    window: tuple[int, int, int, int],
    out_bytes: int,
) -> None:
    with pytest.raises(ValueError, match="a rectangle and a window that fit"):
        _native.resize(bytes(60), size, rectangle, resized, window, bytearray(out_bytes))


def test_a_very_long_picture_costs_little() -> None:
    """Resized in full, it would take 2 GB."""
    preprocessing = torchvision_preprocessing()
    pixels = np.zeros((40_000, 4, 3), np.uint8)
    assert crop_pixels(pixels, preprocessing).shape == (224, 224, 3)
    assert crop_pixels(pixels.swapaxes(0, 1), preprocessing).shape == (224, 224, 3)


def test_close_to_pillows_antialiased_bilinear() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (299, 431, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels).resize((327, 227), Image.Resampling.BILINEAR))
    assert np.abs(resize(pixels, 227, 327).astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("shape", [(20, 10), (10, 20), (10, 10), (1, 300), (5, 5)])
def test_crop_of_any_aspect(shape: tuple[int, int]) -> None:
    preprocessing = torchvision_preprocessing(resize=16, crop=(14, 14))
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert crop_pixels(pixels, preprocessing).shape == (14, 14, 3)


def test_channels() -> None:
    pixels = np.array([[[10, 20, 30]]], np.uint8)
    assert order_channels(pixels, caffe_preprocessing()).tolist() == [[[30, 20, 10]]]
    luma = Preprocessing(resize=1, crop=(1, 1), channels="L", mean=(0.0,), std=(1.0,))
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert order_channels(pixels, luma)[..., 0].tolist() == expected.tolist()


def test_normalise() -> None:
    preprocessing = torchvision_preprocessing(resize=2, crop=(2, 2))
    pixels = np.array([[[255, 0, 128]] * 2] * 2, np.uint8)[None]
    x_NCHW = normalise(pixels, preprocessing)
    assert x_NCHW.shape == (1, 3, 2, 2) and x_NCHW.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(x_NCHW[0, :, 0, 0], expected, rtol=1e-5)
