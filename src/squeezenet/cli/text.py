"""Text for a terminal: safe, short, and how wide it is. Standard library only."""

from __future__ import annotations


def one_line(text: str, limit: int = 1000) -> str:
    """Make text from anywhere fit for a terminal: one line, no control characters, not endless."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(text) <= limit else clean[:limit] + "..."


def text_width(text: str) -> int:
    """Columns that a terminal or an editor gives a text."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


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
