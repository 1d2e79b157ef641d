"""Text for a terminal: safe, short, and how wide it is. Standard library only."""

from __future__ import annotations

from squeezenet.errors import one_line as one_line
from squeezenet.report.csv_cells import csv_text as csv_text

ELLIPSIS = "…"
"""Stands for what was left out."""


def text_width(text: str) -> int:
    """Columns that a terminal or an editor gives a text."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def amount(value: float, unit: str) -> str:
    """Format a number of items, or of bytes."""
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Format a time as a clock would."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def shorten_end(text: str, width: int) -> str:
    """Shorten a text to so many columns at its end."""
    return text if text_width(text) <= width else _head(text, width - 1) + ELLIPSIS


def shorten_start(text: str, width: int) -> str:
    """Shorten a text to so many columns at its start."""
    return text if text_width(text) <= width else ELLIPSIS + _head(text[::-1], width - 1)[::-1]


def shorten_list(text: str, width: int) -> str:
    """Shorten items that commas part, whole items at a time where one fits."""
    if text_width(text) <= width:
        return text
    items = text.split(", ")
    for kept in range(len(items) - 1, 0, -1):
        shorter = f"{', '.join(items[:kept])}, {ELLIPSIS}"
        if text_width(shorter) <= width:
            return shorter
    return shorten_end(text, width)


def shorten_path(text: str, width: int) -> str:
    """Shorten a path at its start; the end tells files apart. Narrow columns lose the ending."""
    if text_width(text) <= width:
        return text
    stem, dot, ending = text.rpartition(".")
    if dot and 1 <= len(ending) <= 4 and width < 2 * len(ending) + 4:
        text = stem
    shorter = shorten_start(text, width)
    # From the start of a name, if that costs no more than the folder's last letters.
    slash = shorter.find("/")
    return ELLIPSIS + shorter[slash:] if slash > 0 else shorter


def _head(text: str, width: int) -> str:
    """As much of a text as so many columns hold."""
    if text.isascii():
        return text[: max(0, width)]
    for end in range(len(text), -1, -1):
        if text_width(text[:end]) <= max(0, width):
            return text[:end]
    return ""
