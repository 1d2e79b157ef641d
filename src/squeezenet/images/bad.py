"""Unreadable images: report and count them, or fail at the first. Incomplete ones: report them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from squeezenet.errors import ImageError
from squeezenet.images.decode import IncompleteImageWarning

T = TypeVar("T")

_MEMBER = "; its image "
"""Between the reason that many images share, and the one that a message is about."""


def one_of_many(reason: str, image: str) -> str:
    """Return the message on an image that cannot be read for a reason which others share.

    Such as a file that has many images. ``BadImages`` counts each image, and reports the reason
    once.
    """
    return f"{reason}{_MEMBER}{image} cannot be read"


class BadImages:
    """Collects unreadable images; ``strict`` raises instead.

    ``report`` gets one line per image, or per reason that many images share: see ``one_of_many``.
    """

    def __init__(
        self, *, strict: bool = False, report: Callable[[str], None] = lambda message: None
    ) -> None:
        self.strict = strict
        self.report = report
        self._messages: set[str] = set()
        self._shared: set[str] = set()
        self._notes: set[str] = set()

    def add(self, message: str) -> None:
        """Record one unreadable image; ``message`` names the file and the reason.

        Raises:
            ImageError: if strict.
        """
        if self.strict:
            raise ImageError(message)
        if message in self._messages:
            return
        self._messages.add(message)
        reason, is_shared, _ = message.partition(_MEMBER)
        if not is_shared:
            self.report(f"skipped {message}")
        elif reason not in self._shared:
            self._shared.add(reason)
            self.report(f"skipped images of {reason}")

    def note(self, message: str) -> None:
        """Report once what there is to say of an image that was read all the same."""
        if message not in self._notes:
            self._notes.add(message)
            self.report(message)

    @property
    def count(self) -> int:
        """Number of different unreadable images."""
        return len(self._messages)


def with_notes(read: Callable[[], T]) -> tuple[T, list[str]]:
    """Return what ``read`` returns, and what ``IncompleteImageWarning`` had to say of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", IncompleteImageWarning)
        result = read()
    return result, [str(warning.message) for warning in caught]
