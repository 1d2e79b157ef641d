"""Unreadable images: report and count them, or fail at the first. Incomplete ones: report them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias, TypeVar

from squeezenet.errors import ImageError
from squeezenet.images.decode import IncompleteImageWarning

T = TypeVar("T")
Found: TypeAlias = tuple[set[int], dict[str, str]]
"""Hashes of images, and the lines that were reported, by what they are about."""

_MEMBER = "; its image "
"""Between what is wrong with a file of many images, and the image that a message is about."""


def one_of_many(file: str, reason: str, image: str) -> str:
    """Return the message on an image that cannot be read because its file of many images cannot.

    ``BadImages`` counts each image, and reports each file once.
    """
    return f"{file}: {reason}{_MEMBER}{image} cannot be read"


class BadImages:
    """Collects unreadable images; ``strict`` raises instead.

    ``report`` gets one line per image, or per file of many images: see ``one_of_many``.
    """

    def __init__(
        self, *, strict: bool = False, report: Callable[[str], None] = lambda message: None
    ) -> None:
        self.strict = strict
        self.report = report
        self._images: set[int] = set()  # hashes: a lost data set may have a million images
        self._lines: dict[str, str] = {}  # by file or message
        self._notes: set[str] = set()

    def add(self, message: str) -> None:
        """Record one unreadable image; ``message`` names the file and the reason.

        Raises:
            ImageError: if strict.
        """
        if self.strict:
            raise ImageError(message)
        fault, of_many, image = message.partition(_MEMBER)
        if of_many:
            # The reason may change, as when a server is gone later; the image is the same.
            file = fault.partition(": ")[0]
            self._found(file, f"skipped images of {fault}", f"{file}{_MEMBER}{image}")
        else:
            self._found(message, f"skipped {message}", message)

    def _found(self, about: str, line: str, image: str) -> None:
        name = image.encode(errors="surrogatepass")
        self._images.add(int.from_bytes(blake2b(name, digest_size=8).digest()))
        if about not in self._lines:
            self._lines[about] = line
            self.report(line)

    @property
    def found(self) -> Found:
        """What was recorded, for ``merge`` in another process."""
        return self._images, self._lines

    def merge(self, found: Found) -> None:
        """Record what another process found, and report what is new of it."""
        images, lines = found
        self._images |= images
        for about, line in lines.items():
            if about not in self._lines:
                self._lines[about] = line
                self.report(line)

    def note(self, message: str) -> None:
        """Report once what there is to say of an image that was read all the same."""
        if message not in self._notes:
            self._notes.add(message)
            self.report(message)

    @property
    def count(self) -> int:
        """Number of different unreadable images."""
        return len(self._images)


def with_notes(read: Callable[[], T]) -> tuple[T, list[str]]:
    """Return what ``read`` returns, and what ``IncompleteImageWarning`` had to say of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", IncompleteImageWarning)
        result = read()
    return result, [str(warning.message) for warning in caught]
