"""What is said of values that are no images, and that the advice works."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy
import numpy as np
import PIL.Image
import pytest
import torch

from squeezenet.errors import ImageError
from squeezenet.images.inputs import over_images, rgb_pixels

U8 = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)


def message(image: Any) -> str:
    with pytest.raises(ImageError) as raised:
        over_images(image, lambda pixels: pixels)
    text = str(raised.value)
    assert "\n" not in text and text.startswith("image")
    return text


def advised(text: str) -> str:
    """The code in a message."""
    _, _, advice = text.rpartition("; ")
    return advice.removeprefix("convert it: ").removeprefix("pass ").removesuffix(" for a batch")


@pytest.mark.parametrize(
    ("array", "found", "shape"),
    [
        (U8 / 255, "floats in 0..1 (float64 (5, 6, 3))", (5, 6, 3)),
        (U8.astype(np.float32), "floats in 0..255 (float32", (5, 6, 3)),
        (U8.astype(np.float16) / 255, "floats in 0..1 (float16", (5, 6, 3)),
        (U8.astype(np.int64), "integers of another type (int64", (5, 6, 3)),
        (U8.astype(">u2") * 257, "16-bit integers up to 6", (5, 6, 3)),
        (U8[..., 0] > 99, "true or false values (bool (5, 6))", (5, 6, 3)),
        (U8.transpose(2, 0, 1), "channels first (uint8 (3, 5, 6))", (5, 6, 3)),
        (np.zeros((3, 4, 4), np.uint8), "channels first", (4, 4, 3)),
        (U8.transpose(2, 0, 1) / 255, "floats in 0..1 and channels first", (5, 6, 3)),
        (U8[..., :1], "one channel (uint8 (5, 6, 1))", (5, 6, 3)),
        (U8[None, ..., 0], "one channel, first (uint8 (1, 5, 6))", (5, 6, 3)),
        (np.zeros((5, 6, 4), np.uint8), "four channels, as RGBA", (5, 6, 3)),
        (np.zeros((5, 6, 4)), "floats in 0..1 and four channels, as RGBA", (5, 6, 3)),
        (U8[None], "a batch of 1 (uint8 (1, 5, 6, 3))", [(5, 6, 3)]),
        (np.zeros((2, 3, 4, 4)), "floats in 0..1 and a batch of 2 with", [(4, 4, 3)] * 2),
        (torch.zeros(3, 4, 4), "floats in 0..1 and channels first (float32", (4, 4, 3)),
        (
            torch.zeros(2, 3, 5, 4),
            "floats in 0..1 and a batch of 2 with channels first",
            [(5, 4, 3)] * 2,
        ),
    ],
)
def test_arrays_and_how_to_convert_them(array: Any, found: str, shape: object) -> None:
    """The advice is code, and gives what is accepted."""
    text = message(array)
    assert f"found {found}" in text and "expected pixels as uint8 0 to 255, (H, W, 3)" in text
    code = advised(text)
    names = {"array": array, "tensor": array, "numpy": numpy, "PIL": PIL}
    converted = eval(code, names)
    assert over_images(converted, lambda pixels: pixels.shape) == shape


def test_the_advice_gives_the_same_pixels() -> None:
    for array in (U8 / 255, U8.astype(np.float64), U8.astype(np.int32), U8.astype("u2") * 257):
        code = advised(message(array))
        assert np.array_equal(rgb_pixels(eval(code, {"array": array})), U8)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.full((4, 4, 3), np.nan), "NaN or infinite values"),
        (np.linspace(-2, 2, 48).reshape(4, 4, 3), "floats from -2 to 2, as after a normalisation"),
        (np.full((3, 4, 4), -1.0), "which the model does itself and channels first"),
        (np.full((4, 4, 3), 1e9), "floats from 1e+09 to 1e+09"),
        (np.full((4, 4, 3), 300), "integers from 300 to 300"),
        (np.zeros((4, 4, 3), complex), "values that are no real numbers"),
        (np.array(["a"]), "values that are no real numbers"),
        (np.array([None]), "values that are no real numbers"),
        (np.zeros(4, np.uint8), "a row of numbers"),
        (np.zeros((), np.uint8), "a single number"),
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.zeros((4, 4, 2), np.uint8), "2 channels"),
        (np.zeros((1, 1, 1, 1, 1), np.uint8), "5 dimensions"),
    ],
)
def test_arrays_that_no_code_converts(array: Any, found: str) -> None:
    text = message(array)
    assert found in text and "convert it" not in text


@pytest.mark.parametrize(
    ("value", "found", "hint"),
    [
        (None, "None", "OpenCV's imread returns None"),
        (5, "the number 5", ""),
        (1.5, "the number 1.5", ""),
        (True, "the number True", ""),
        ({}, "a dict", ""),
        (range(3), "a range", "pass list(images)"),
        (iter([U8]), "a list_iterator", "pass list(images)"),
        ([1, 2], "a list of numbers", "numpy.array(pixels, 'uint8')"),
        (((1, 2), (3, 4)), "a list of numbers", "numpy.array(pixels, 'uint8')"),
        (U8.tolist(), "a list of numbers", "numpy.array(pixels, 'uint8')"),
        ([[]], "a list", ""),
        ("", "an empty name", ""),
    ],
)
def test_other_values(value: object, found: str, hint: str) -> None:
    text = message(value)
    assert f"found {found}, expected" in text and hint in text


def test_no_images_are_no_predictions() -> None:
    assert over_images([], lambda pixels: pixels) == []


def test_a_url_is_no_path() -> None:
    with pytest.raises(ImageError, match="https://x/y.png: is a URL.*download it first"):
        rgb_pixels("https://x/y.png")


def test_pillow_images_whose_file_is_closed(tmp_path: Path) -> None:
    """Pillow reads pixels when they are first needed."""
    path = tmp_path / "a.png"
    PIL.Image.fromarray(U8).save(path)
    with PIL.Image.open(path) as closed:
        pass
    with io.BytesIO(path.read_bytes()) as file:
        detached = PIL.Image.open(file)
    for image in (closed, detached):
        with pytest.raises(ImageError, match=r"file was closed .* call image.load\(\) before"):
            rgb_pixels(image)
    with PIL.Image.open(path) as loaded:
        loaded.load()
    assert np.array_equal(rgb_pixels(loaded), U8)
