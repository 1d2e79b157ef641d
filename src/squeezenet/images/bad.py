"""Unreadable images: report and count them, or fail at the first."""

from __future__ import annotations

from collections.abc import Callable

from squeezenet.errors import ImageError


class BadImages:
    """Collects unreadable images. ``report`` gets one line per image; ``strict`` raises instead."""

    def __init__(
        self, *, strict: bool = False, report: Callable[[str], None] = lambda message: None
    ) -> None:
        self.strict = strict
        self.report = report
        self.messages: list[str] = []

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

    @property
    def count(self) -> int:
        """Number of different unreadable images."""
        return len(self.messages)
