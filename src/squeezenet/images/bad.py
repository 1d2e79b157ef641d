"""What happens to images that cannot be read."""

from __future__ import annotations

from collections.abc import Callable

from squeezenet.errors import ImageError


class BadImages:
    """What happens to images that cannot be read: reported, counted, or, if strict, an error."""

    def __init__(
        self, *, strict: bool = False, report: Callable[[str], None] = lambda message: None
    ) -> None:
        self.strict = strict
        self.report = report
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Take note of one bad image.

        Raises:
            ImageError: when strict.
        """
        if self.strict:
            raise ImageError(message)
        if message not in self.messages:
            self.messages.append(message)
            self.report(f"skipped {message}")

    @property
    def count(self) -> int:
        """How many different images were bad."""
        return len(self.messages)
