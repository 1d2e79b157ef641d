"""Unreadable images: report and count them, or fail at the first. Incomplete ones: report them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from squeezenet.errors import ImageError
from squeezenet.images.decode import IncompleteImageWarning

T = TypeVar("T")


class BadImages:
    """Collects unreadable images. ``report`` gets one line per image; ``strict`` raises instead."""

    def __init__(
        self, *, strict: bool = False, report: Callable[[str], None] = lambda message: None
    ) -> None:
        self.strict = strict
        self.report = report
        self.messages: list[str] = []
        self._notes: set[str] = set()

    def add(self, message: str) -> None:
        """Record one unreadable image; ``message`` names the file and the reason.

        Raises:
            ImageError: if strict.
        """
        if self.strict:
            raise ImageError(message)
        if message not in self.messages:
            self.messages.append(message)
            self.report(f"skipped {message}")

    def note(self, message: str) -> None:
        """Report once what there is to say of an image that was read all the same."""
        if message not in self._notes:
            self._notes.add(message)
            self.report(message)

    @property
    def count(self) -> int:
        """Number of different unreadable images."""
        return len(self.messages)


def with_notes(read: Callable[[], T]) -> tuple[T, list[str]]:
    """Return what ``read`` returns, and what ``IncompleteImageWarning`` had to say of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", IncompleteImageWarning)
        result = read()
    return result, [str(warning.message) for warning in caught]
