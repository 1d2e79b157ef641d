"""Messages are one line of printable text, whatever they quote."""

from __future__ import annotations

import signal

import pytest

from squeezenet import errors
from squeezenet.errors import InterruptedRunError, SqueezeNetError, one_line

CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, SqueezeNetError)
]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[31mred", "\u202eabc", "\x00", "\ud800", "x" * 5000, "\x00" * 900]
)
def test_messages_are_one_line(kind: type[SqueezeNetError], text: str) -> None:
    more = (signal.SIGINT,) if kind is InterruptedRunError else ()
    message = str(kind(f"file: {text}", *more))
    assert message.startswith("file: ") and message.isprintable() and len(message) <= 1003


def test_plain_text_stays() -> None:
    for text in ("", "é 漢字: 'a' \\ \"b\"", "x" * 1000):
        assert one_line(text) == text and str(SqueezeNetError(text)) == text
