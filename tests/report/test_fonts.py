"""Fonts for class names: one that is installed and has them, or the class's number and a line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.images.sets import ArrayImages
from squeezenet.progress import SilentProgress
from squeezenet.report.fonts import fonts_for
from squeezenet.report.write import write_report
from tests.report.test_report import measured, small_record

UNKNOWN = "\u12a5"  # Ethiopic: in none of the fonts that come with matplotlib


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def make_font(path: Path, family: str, characters: str) -> None:
    """Write a font of bars, each higher than the one before; the last character is empty."""
    builder = FontBuilder(1000, isTTF=True)
    names = {ord(c): f"glyph{i}" for i, c in enumerate(characters)}
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    glyphs = {".notdef": TTGlyphPen(None).glyph()}
    for i, name in enumerate(names.values()):
        pen = TTGlyphPen(None)
        if i < len(names) - 1:
            top = 200 + 150 * i
            for move, point in zip(
                ("moveTo", "lineTo", "lineTo", "lineTo"),
                ((100, 0), (100, top), (600, top), (600, 0)),
                strict=True,
            ):
                getattr(pen, move)(point)
            pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (700, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def only_matplotlibs(monkeypatch: pytest.MonkeyPatch) -> Iterator[font_manager.FontManager]:
    """The fonts that matplotlib brings, whatever the system has."""
    manager = font_manager.fontManager
    own = [e for e in manager.ttflist if "mpl-data" in e.fname]
    monkeypatch.setattr(manager, "ttflist", own)
    manager._findfont_cached.cache_clear()
    yield manager
    manager._findfont_cached.cache_clear()


def confusion_png(folder: Path, spec: SqueezeNetSpec, *names: str) -> tuple[bytes, list[str]]:
    """Draw a report of classes that are all confused once; return the matrix and the lines."""
    count, progress = len(names), Lines()
    predicted = LabelledLogits(
        logits_NK=np.roll(np.eye(count, dtype=np.float32), 1, axis=1),
        labels=np.arange(count),
        indices=np.arange(count),
        skipped=0,
    )
    images = ArrayImages(
        pixels_NHWC=np.zeros((count, 4, 4, 3), np.uint8),
        labels=predicted.labels,
        class_names=names,
        title="t",
    )
    record = small_record(spec, *names)
    write_report(folder, measured(record, predicted), images, progress=progress)
    image = Image.open(io.BytesIO((folder / "confusion.png").read_bytes()))
    return image.convert("RGB").tobytes(), progress.lines


@pytest.mark.parametrize("name", ["cat", "é", "ü\u0301", "Ёж", "λ", "→", "a\u00a0b", "x\ufe0f"])
def test_matplotlibs_font_is_enough(name: str, only_matplotlibs: object) -> None:
    fonts = fonts_for([name])
    assert fonts.families == ("sans-serif",) and fonts.note is None
    assert fonts.label(name, 3) == name


@pytest.mark.parametrize(
    "names",
    [("犬", "猫"), ("ねこ", "いぬ"), ("개", "괭"), ("แมว", "หมา"), ("बिल्ली", "कुत्ता"), ("🦆", "🐈")],
)
def test_without_a_font_classes_are_numbered(
    names: tuple[str, str],
    only_matplotlibs: object,
    tiny_spec: SqueezeNetSpec,
    tmp_path: Path,
) -> None:
    """One line says so, and pictures of other classes differ."""
    fonts = fonts_for(names)
    assert fonts.missing and fonts.label(names[1], 1) == f"1: {names[1]}"
    assert fonts.label("cat", 1) == "cat"
    pixels, lines = confusion_png(tmp_path / "a", tiny_spec, *names)
    assert len(lines) == 1 and "no installed font has" in lines[0] and "number" in lines[0]
    swapped, _ = confusion_png(tmp_path / "b", tiny_spec, "cat", *names[1:])
    assert pixels != swapped
    card = (tmp_path / "a" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(name in card for name in names)


def test_an_installed_font_is_used(
    only_matplotlibs: font_manager.FontManager, tiny_spec: SqueezeNetSpec, tmp_path: Path
) -> None:
    make_font(tmp_path / "f.ttf", "Bars Of A Test", "犬猫鳥")
    only_matplotlibs.addfont(tmp_path / "f.ttf")
    fonts = fonts_for(["犬 cat", "猫"])
    assert fonts.families == ("sans-serif", "Bars Of A Test") and fonts.note is None
    first, lines = confusion_png(tmp_path / "a", tiny_spec, "犬", "猫")
    second, _ = confusion_png(tmp_path / "b", tiny_spec, "猫", "犬")
    assert first != second and not lines
    # A shape that is empty is none, as in fonts of coloured pictures; nor is another font's.
    assert fonts_for(["鳥", UNKNOWN, "犬"]).missing == {"鳥", UNKNOWN}


def test_a_damaged_font_has_nothing(
    only_matplotlibs: font_manager.FontManager, tmp_path: Path
) -> None:
    make_font(tmp_path / "f.ttf", "Bars Of A Test", "犬猫鳥")
    only_matplotlibs.addfont(tmp_path / "f.ttf")
    (tmp_path / "f.ttf").write_bytes(b"no font")
    assert fonts_for(["犬"]).missing == {"犬"}
    (tmp_path / "f.ttf").unlink()
    assert fonts_for(["犬"]).missing == {"犬"}
