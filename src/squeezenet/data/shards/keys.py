"""Names of samples in shards: webdataset's rules, and what our own shards make of file names."""

from __future__ import annotations

from pathlib import Path

from squeezenet.images.formats import ENDINGS, HEAD_BYTES, HEIC_ENDINGS, format_ending

LABEL = "cls"
"""The ending of the file that has the number of the class, as webdataset decodes it."""
_MAX_PART_BYTES = 60
"""Of a class or file name; the file system of whoever unpacks the tar has limits as well."""
PICTURE_ENDINGS = frozenset(each[1:] for each in ENDINGS | HEIC_ENDINGS | {".img"})


def sample_key(class_name: str, path: Path, number: int, count: int) -> str:
    """Return the key of picture ``number`` of ``count``: its class and file name, and the number.

    webdataset ends a key at the first dot of the file's name, and passes over names such as
    ``__meta__``.
    """
    digits = len(str(count - 1))
    return f"{_clean(class_name)}/{_clean(path.stem)}-{number:0{digits}}"


def ending(path: Path, content: bytes) -> str:
    """Return the ending of a picture in a shard: the file's own, or that of its format."""
    own = path.suffix.lower()
    if own in ENDINGS | HEIC_ENDINGS:
        return own[1:]
    return format_ending(content[:HEAD_BYTES])[1:]


def _clean(name: str) -> str:
    letters = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    short = letters.encode()[:_MAX_PART_BYTES].decode(errors="ignore")
    return short.lstrip("_") or "picture"
