"""What happens to images that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from squeezenet.errors import ImageError


@dataclass
class BadImages:
    """What happens to images that cannot be read: reported, counted, or, if strict, an error."""

    strict: bool = False
    report: Callable[[str], None] = lambda message: None
    messages: list[str] = field(default_factory=list)

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
