"""JSON files that a user writes: a network, a recipe."""

from __future__ import annotations

import json
from pathlib import Path

from squeezenet.errors import SpecError, UnknownNameError

_MAX_BYTES = 1 << 20
"""A network of 256 Fire modules has 25 KB."""


def read_json(file: Path, what: str) -> object:
    """Return the value in a JSON file; None if it holds none, or more than 1 MB.

    ``what`` says in an error message what is expected, as in "a network".

    Raises:
        UnknownNameError: there is no such file.
        SpecError: it cannot be read.
    """
    if not file.is_file():
        raise UnknownNameError(f"{file}: no such file, expected {what} in JSON")
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES + 1)
        value: object = json.loads(text) if len(text) <= _MAX_BYTES else None
    except OSError as error:
        raise SpecError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        return None
    return value
