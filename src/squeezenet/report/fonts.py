"""Fonts that have the characters of class names: matplotlib's own has no Chinese, for instance.

No font is brought along. Where none that is installed has a character, the class gets its number,
so that its name cannot be taken for another one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib import font_manager

_DEFAULT = "DejaVu Sans"
"""matplotlib's own font, the first of its family sans-serif."""
_NORMAL_WEIGHT = 400
_UNUSABLE = ("Last Resort",)
"""Fonts that have a box for every character."""
_LIKELY = ("noto sans", "cjk", "noto", "unicode", "wenquanyi", "droid", "gothic", "hei", "sans")
"""Words in names of fonts that have many characters, the likeliest first."""


@dataclass(frozen=True, kw_only=True)
class Fonts:
    """The families to draw some names with, and the characters that none of them has."""

    families: tuple[str, ...]
    missing: frozenset[str]

    def label(self, name: str, number: int) -> str:
        """Return what to draw for a class: its name, after its number if no font has it."""
        return name if self.missing.isdisjoint(name) else f"{number}: {name}"

    @property
    def note(self) -> str | None:
        """One line for the user where characters are missing."""
        if not self.missing:
            return None
        shown = " ".join(sorted(self.missing)[:5]) + (" ..." if len(self.missing) > 5 else "")
        return (
            f"no installed font has {len(self.missing)} of the characters of the class names "
            f"({shown}): the pictures number these classes, from 0 in the model's order; install "
            "a font that has them, such as Noto Sans CJK for Chinese, Japanese and Korean"
        )


def fonts_for(names: Iterable[str]) -> Fonts:
    """Choose among the installed fonts, as few as have the characters of ``names``."""
    missing = {c for name in names for c in name if _is_drawn(c)}
    families = ["sans-serif"]  # matplotlib's own font here, the viewer's in an SVG
    for family, path in _installed():
        if not missing:
            break
        found = _drawable(path, missing)
        if found and family != _DEFAULT:
            found = _drawable(_chosen_file(family), found)
            families += [family] * bool(found)
        missing -= found
    return Fonts(families=tuple(families), missing=frozenset(missing))


def _is_drawn(character: str) -> bool:
    """Whether a character has a shape; spaces and what only selects a shape have none."""
    selects = unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    return not (character.isascii() or character.isspace() or selects)


def _installed() -> list[tuple[str, str]]:
    """Return the families of upright fonts, each with a file: the default, then likely ones."""
    files: dict[str, tuple[int, str]] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style != "normal" or entry.name.startswith(_UNUSABLE):
            continue
        weight = font_manager.weight_dict.get(str(entry.weight), entry.weight)
        distance = abs(weight - _NORMAL_WEIGHT) if isinstance(weight, int) else 0
        files[entry.name] = min(
            files.get(entry.name, (distance, entry.fname)), (distance, entry.fname)
        )

    def rank(family: str) -> tuple[int, str]:
        places = (i for i, word in enumerate(_LIKELY) if word in family.lower())
        return -1 if family == _DEFAULT else next(places, len(_LIKELY)), family

    return [(family, files[family][1]) for family in sorted(files, key=rank)]


def _chosen_file(family: str) -> str:
    """Return the file that matplotlib draws a family with; "" if it is gone."""
    properties = font_manager.FontProperties(family=[family])
    try:
        return font_manager.findfont(properties, fallback_to_default=False)
    except ValueError:
        return ""


def _drawable(path: str, characters: Iterable[str]) -> set[str]:
    """Return those characters for which a font has a shape; fonts of coloured pictures have none.

    A font that cannot be read has nothing.
    """
    found = set()
    try:
        font = font_manager.get_font(path)
        font.set_size(12, 72)
        for character in characters:
            if font.get_char_index(ord(character)) and font.load_char(ord(character)).width > 0:
                found.add(character)
    except (OSError, RuntimeError):  # what FreeType raises
        return found
    return found
