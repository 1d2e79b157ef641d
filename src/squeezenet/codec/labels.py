"""Names and ids of classes <-> the section LABELS: spec/FORMAT.md, "LABELS"."""

from __future__ import annotations

from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.errors import MalformedError

_NO_IDS, _IMAGENET_IDS, _LISTED_IDS = range(3)


def label_bytes(names: tuple[str, ...], ids: tuple[str, ...]) -> bytes:
    """Return the section LABELS; ImageNet's WordNet ids are stored as a flag alone."""
    from squeezenet.codec.range_text import encode_text

    if not ids:
        return bytes([_NO_IDS]) + encode_text("\n".join(names))
    if ids == imagenet_classes()[1]:
        return bytes([_IMAGENET_IDS]) + encode_text("\n".join(names))
    return bytes([_LISTED_IDS]) + encode_text("\n".join(names + ids))


def split_labels(kind: int, text: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (names, ids); ``kind`` is the section's first byte, ``text`` the decoded rest.

    Raises:
        MalformedError: the kind is unknown, or there are not as many ids as names.
    """
    lines = tuple(text.split("\n"))
    if kind == _NO_IDS:
        return lines, ()
    if kind == _IMAGENET_IDS:
        return lines, imagenet_classes()[1]
    if kind != _LISTED_IDS:
        raise MalformedError(f"{where}: kind of ids {kind}, expected 0 to {_LISTED_IDS}")
    if len(lines) % 2:
        raise MalformedError(f"{where}: {len(lines)} lines, expected as many ids as names")
    return lines[: len(lines) // 2], lines[len(lines) // 2 :]
