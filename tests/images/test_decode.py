"""Every kind of image file comes out as a viewer shows it; unreadable ones give one clear line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezenet.errors import ImageError
from squeezenet.images import decode
from squeezenet.images.decode import read_image

RED = np.zeros((6, 8, 3), np.uint8)
RED[..., 0] = 200


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    pixels = read_image(save(tmp_path / f"x.{suffix}", Image.fromarray(RED)))
    assert pixels.shape == (6, 8, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - RED).max() <= 8  # jpg and webp are lossy


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_modes(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.full((6, 8), 255, np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.full((6, 8), 65535, np.uint16))
    elif mode == "I":
        image = Image.fromarray(np.full((6, 8), 65535, np.int32))
    elif mode == "F":
        image = Image.fromarray(np.full((6, 8), 1.0, np.float32))
    else:
        image = grey.convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr", "I", "F", "LA") else "png"
    pixels = read_image(save(tmp_path / f"x.{suffix}", image))
    assert pixels.shape == (6, 8, 3)
    assert pixels.min() >= 254


def test_sixteen_bit_grey_is_divided_by_257(tmp_path: Path) -> None:
    values = (np.arange(48, dtype=np.uint16) * 1365).reshape(6, 8)
    pixels = read_image(save(tmp_path / "x.png", Image.fromarray(values)))
    np.testing.assert_array_equal(pixels[..., 0], np.round(values / 257).astype(np.uint8))


def test_alpha_is_blended_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((6, 8, 4), np.uint8)
    rgba[:, :4] = (200, 0, 0, 255)
    pixels = read_image(save(tmp_path / "x.png", Image.fromarray(rgba)))
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert pixels[0, 7].tolist() == [255, 255, 255]


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(RED).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    pixels = read_image(save(tmp_path / "x.png", image, transparency=image.getpixel((0, 0))))
    assert (pixels == 255).all()


def test_exif_rotation(tmp_path: Path) -> None:
    image = Image.fromarray(RED)
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    pixels = read_image(save(tmp_path / "x.jpg", image, exif=exif))
    assert pixels.shape == (8, 6, 3)


def test_from_memory() -> None:
    buffer = io.BytesIO()
    Image.fromarray(RED).save(buffer, "png")
    buffer.seek(0)
    np.testing.assert_array_equal(read_image(buffer, "stdin"), RED)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.png: not a readable image"):
        read_image(path)


def test_truncated_and_missing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "cut.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageError, match=r"cut\.jpg: not a readable image"):
        read_image(path)
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "none.png")


def test_image_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "big.png", Image.fromarray(RED))
    monkeypatch.setattr(decode, "MAX_PIXELS", 47)
    with pytest.raises(ImageError, match="8x6 pixels, expected at most 47"):
        read_image(path)
