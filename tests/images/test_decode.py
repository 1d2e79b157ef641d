"""Every kind of image file comes out as a viewer shows it; unreadable ones give one clear line."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from squeezenet.errors import ImageError, UsageError
from squeezenet.images import decode
from squeezenet.images.decode import IncompleteImageWarning, read_image
from squeezenet.images.limits import ImageLimits, parse_limits

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


def test_an_image_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "big.png", Image.fromarray(RED))
    with pytest.raises(ImageError, match="8x6 pixels, expected at most 47"):
        read_image(path, limits=ImageLimits(max_pixels=47))
    with pytest.raises(ImageError, match="decoding 8x6 pixels takes 1 MB"):
        read_image(path, limits=ImageLimits(max_memory=8 * 6 * 8 - 1))
    assert read_image(path, limits=ImageLimits(max_pixels=48, max_memory=8 * 6 * 8)).shape


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_without_its_end_marker_is_read_and_said(
    tmp_path: Path, mode: str, progressive: bool
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (61, 43, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    path = save(tmp_path / "x.jpg", image, progressive=progressive)
    whole = read_image(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.warns(IncompleteImageWarning, match=r"x\.jpg: the JPEG's end marker is missing"):
        np.testing.assert_array_equal(read_image(path), whole)
    buffer = io.BytesIO(path.read_bytes())
    with pytest.warns(IncompleteImageWarning, match="stdin"):
        np.testing.assert_array_equal(read_image(buffer, "stdin"), whole)


@pytest.mark.parametrize("cut", [3, 5, 9, 17, 40, 333])
def test_a_jpeg_that_lacks_pixels_is_refused(tmp_path: Path, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)
    path = save(tmp_path / "x.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: -2 - cut])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def smooth(height: int, width: int) -> Image.Image:
    """A picture without fine detail: at any size it looks the same."""
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)
    pixels = np.stack(np.broadcast_arrays(rows, columns, 128 * np.ones((1, 1))), axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(
    ("min_side", "shape"),
    [
        (None, (180, 301)), (181, (180, 301)), (91, (180, 301)), (90, (90, 151)),
        (46, (90, 151)), (45, (45, 76)), (23, (45, 76)), (22, (23, 38)), (1, (23, 38)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_at_the_smallest_size_that_will_do(
    tmp_path: Path, min_side: int | None, shape: tuple[int, int], progressive: bool
) -> None:
    path = save(tmp_path / "x.jpg", smooth(180, 301), quality=95, progressive=progressive)
    pixels = read_image(path, min_side=min_side)
    assert pixels.shape == (*shape, 3)
    small = np.asarray(smooth(180, 301).resize(shape[::-1], Image.Resampling.BOX))
    assert np.abs(pixels.astype(int) - small).mean() < 3
    if shape == (180, 301):
        np.testing.assert_array_equal(pixels, read_image(path))


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif"])
def test_only_a_jpeg_is_decoded_smaller(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x.{suffix}", smooth(180, 301))
    np.testing.assert_array_equal(read_image(path, min_side=10), read_image(path))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_decoded_smaller(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "x.jpg", smooth(180, 301).convert(mode), quality=95)
    pixels = read_image(path, min_side=90)
    small = np.asarray(Image.fromarray(read_image(path)).resize((151, 90), Image.Resampling.BOX))
    assert pixels.shape == (90, 151, 3)
    assert np.abs(pixels.astype(int) - small).mean() < 3


def test_a_smaller_picture_is_turned_as_its_orientation_says(tmp_path: Path) -> None:
    image = smooth(180, 301)
    exif = image.getexif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.jpg", image, exif=exif, quality=95)
    pixels = read_image(path, min_side=90)
    assert pixels.shape == (151, 90, 3)
    whole = Image.fromarray(read_image(path)).resize((90, 151), Image.Resampling.BOX)
    assert np.abs(pixels.astype(int) - np.asarray(whole)).mean() < 3


def test_the_limits_are_those_of_the_full_size(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", smooth(180, 301))
    with pytest.raises(ImageError, match="301x180 pixels, expected at most 5000"):
        read_image(path, limits=ImageLimits(max_pixels=5000), min_side=22)


def test_damaged_jpegs_decoded_smaller(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", smooth(180, 301))
    content, whole = path.read_bytes(), read_image(path)
    path.write_bytes(content[:-2])
    with pytest.warns(IncompleteImageWarning, match="end marker is missing"):
        np.testing.assert_array_equal(read_image(path, min_side=22), whole)
    for cut in (5, 40, len(content) // 3):
        path.write_bytes(content[: -2 - cut])
        with pytest.raises(ImageError, match=r"x\.jpg: not a readable image .*truncated"):
            read_image(path, min_side=22)
    buffer = io.BytesIO(content)
    assert read_image(buffer, "member of a shard", min_side=90).shape == (90, 151, 3)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_is_named(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(64))
    with pytest.raises(ImageError, match="HEIC, convert to JPEG, or install pillow-heif"):
        read_image(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16", "F", "CMYK", "L", "1"])
@pytest.mark.parametrize("turned", [1, 3, 5, 6, 8])
def test_strips_give_what_a_whole_image_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, turned: int
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (9, 7, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65535, (9, 7), dtype=np.uint16))
    elif mode == "F":
        image = Image.fromarray(rng.random((9, 7), dtype=np.float32))
    else:
        image = Image.fromarray(noise).convert("RGB" if mode in ("CMYK", "P", "L", "1") else mode)
        image = image.convert(mode)
    exif = image.getexif()
    exif[0x0112] = turned
    path = save(tmp_path / "x.tif", image, exif=exif)
    whole = read_image(path)
    assert whole.shape == ((9, 7, 3) if turned < 5 else (7, 9, 3))
    monkeypatch.setattr(decode, "_STRIP_PIXELS", 14)
    np.testing.assert_array_equal(read_image(path), whole)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(decode.to_pixels(decode.rgb_from_pillow(opened)), whole)


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("1G", 1 << 30), ("500m", 500 << 20), ("64KiB", 1 << 16), ("9", 9)]
)
def test_limits_as_options(text: str, num_bytes: int) -> None:
    assert parse_limits(5, text) == ImageLimits(max_pixels=5, max_memory=num_bytes)


@pytest.mark.parametrize(
    ("max_pixels", "text"), [(0, "1G"), (5, ""), (5, "0"), (5, "1T"), (5, "-1"), (5, "1.5G")]
)
def test_limits_that_are_none(max_pixels: int, text: str) -> None:
    with pytest.raises(UsageError, match="expected numbers of pixels and bytes"):
        parse_limits(max_pixels, text)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "png", {}), ("LA", "png", {}), ("P", "png", {"transparency": 1}),
        ("RGB", "jpg", {"progressive": True, "subsampling": 0}), ("RGBA", "tif", {}),
    ],
)  # fmt: skip
def test_decoding_stays_within_its_memory(
    tmp_path: Path, mode: str, kind: str, options: dict[str, Any]
) -> None:
    """A process with room for what the limits foresee, and for Python itself, reads the image."""
    path = tmp_path / f"x.{kind}"
    Image.new(mode, (6000, 4000), 1).save(path, **options)
    script = (
        "import resource, sys; from pathlib import Path; import numpy\n"
        "from squeezenet.images.decode import read_image; from PIL import Image\n"
        "from squeezenet.images.limits import _bytes_per_pixel\n"
        "Image.init(); path = Path(sys.argv[1]); room = 24_000_000 * _bytes_per_pixel("
        "Image.open(path))\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + room + (64 << 20),) * 2)\n"
        "print(read_image(path).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(4000, 6000, 3)\n", done.stderr[-300:]
