"""Simple calls of ``predict`` without the option parser, which takes longer to import than one
prediction takes. Whatever is not simple and well-formed is left to the parser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

from squeezenet.cli.predict_images import Format, predict_images

_DEFAULTS: dict[str, Any] = predict_images.__kwdefaults__ or {}
"""The options of ``predict`` are the keywords of ``predict_images``."""


def plain_predict(arguments: Sequence[str]) -> Callable[[], None] | None:
    """Return the call that the arguments after ``predict`` mean; None leaves them to the parser."""
    words: list[str] = []
    options: dict[str, Any] = {}
    left = iter(arguments)
    for argument in left:
        if argument == "-" or not argument.startswith("-"):
            words.append(argument)
            continue
        name, equals, given = argument.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if not argument.startswith("--") or key not in _DEFAULTS or key in options:
            return None
        if isinstance(_DEFAULTS[key], bool):
            options[key] = None if equals else True
        else:
            options[key] = _value(key, given if equals else next(left, ""))
        if options[key] is None:
            return None
    return partial(predict_images, tuple(words), **options) if words else None


def _value(key: str, text: str) -> object | None:
    if not text or text.startswith("-"):
        return None
    default = _DEFAULTS[key]
    if key == "format":
        return text if text in get_args(Format) else None
    if isinstance(default, int):
        return int(text) if text.isascii() and text.isdigit() else None
    if isinstance(default, float):
        return float(text) if text.replace(".", "", 1).isdigit() and text.isascii() else None
    return text
