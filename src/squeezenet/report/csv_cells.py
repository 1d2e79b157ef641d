"""Cells of CSV files. Standard library only: ``predict`` starts with it."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(text: str) -> str:
    """Return a text as a cell of a CSV file that no spreadsheet takes for a formula.

    One that begins like a formula gets an apostrophe before it, as OWASP's page "CSV Injection"
    says; full-width signs count too, since a spreadsheet may read them alike.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
