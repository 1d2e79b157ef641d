"""Fonts that have the characters of class names: matplotlib's own has no Chinese, for instance.

No font is brought along. Where none that is installed has a character, the class gets its number,
so that its name cannot be taken for another one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

_DEFAULT = "DejaVu Sans"
"""matplotlib's own font, the first of its family sans-serif."""
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
    for family, open_font in _installed():
        if not missing:
            break
        found = _drawable(open_font, missing)
        missing -= found
        if found and family != _DEFAULT:
            families.append(family)
    return Fonts(families=tuple(families), missing=frozenset(missing))


def _is_drawn(character: str) -> bool:
    """Whether a character has a shape; spaces and what only selects a shape have none."""
    selects = unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    return not (character.isascii() or character.isspace() or selects)


def _installed() -> Iterator[tuple[str, Callable[[], FT2Font]]]:
    """Yield the upright fonts of normal weight: the default, then those with likely names."""
    entries = {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal"
        and str(entry.weight) in ("400", "normal", "regular", "350", "300")
        and not entry.name.startswith(_UNUSABLE)
    }

    def rank(name: str) -> tuple[int, str]:
        places = (i for i, word in enumerate(_LIKELY) if word in name.lower())
        return -1 if name == _DEFAULT else next(places, len(_LIKELY)), name

    for name in sorted(entries, key=rank):
        yield name, lambda path=entries[name]: FT2Font(path)  # type: ignore[misc]


def _drawable(open_font: Callable[[], FT2Font], characters: Iterable[str]) -> set[str]:
    """Return those characters for which a font has a shape; fonts of coloured pictures have none.

    A font that cannot be read has nothing.
    """
    found = set()
    try:
        font = open_font()
        font.set_size(12, 72)
        for character in characters:
            if font.get_char_index(ord(character)) and font.load_char(ord(character)).width > 0:
                found.add(character)
    except (OSError, RuntimeError):  # what FreeType raises
        return found
    return found
