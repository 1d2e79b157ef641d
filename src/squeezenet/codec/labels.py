"""Names and ids of classes <-> the section LABELS: spec/FORMAT.md."""

from __future__ import annotations

from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.errors import MalformedError

_NO_IDS, _IMAGENET_IDS, _LISTED_IDS = range(3)


def label_bytes(names: tuple[str, ...], ids: tuple[str, ...]) -> bytes:
    """Return the section."""
    from squeezenet.codec.range_text import encode_text

    if not ids:
        return bytes([_NO_IDS]) + encode_text("\n".join(names))
    if ids == imagenet_classes()[1]:
        return bytes([_IMAGENET_IDS]) + encode_text("\n".join(names))
    return bytes([_LISTED_IDS]) + encode_text("\n".join(names + ids))


def split_labels(kind: int, text: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names and ids; ``kind`` is the section's first byte, ``text`` the rest, decoded.

    Raises:
        MalformedError: there is no such kind, or not as many ids as names.
    """
    lines = tuple(text.split("\n"))
    if kind == _NO_IDS:
        return lines, ()
    if kind == _IMAGENET_IDS:
        return lines, imagenet_classes()[1]
    if kind != _LISTED_IDS or len(lines) % 2:
        raise MalformedError(f"{where}: kind {kind} of ids, {len(lines)} lines")
    return lines[: len(lines) // 2], lines[len(lines) // 2 :]
