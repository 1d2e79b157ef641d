"""What a picture is: one rule for files and folders. Standard library only, opens no image.

A file is a picture if its ending says so. A file with no ending, or with one that is unknown, is a
picture if its first bytes say so. ``decode`` reads the pixels, and goes by the content alone.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

ENDINGS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".tif",
    ".tiff", ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".ppm",
    ".pgm", ".pbm", ".pnm", ".tga", ".qoi",
})  # fmt: skip
"""Endings of the formats that are read, see ``decode.FORMATS``."""
HEIC_ENDINGS = frozenset({".heic", ".heif", ".heics", ".heifs", ".hif"})
"""Photographs of phones; read where the package pillow-heif is installed."""
HEIC_ADVICE = "convert to JPEG, or install pillow-heif"
_RAW_ENDINGS = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
"""Raw files of cameras. Many are TIFF inside, with a thumbnail as the first image."""
RAW_ADVICE = "a camera's raw file, convert to JPEG"
HEAD_BYTES = 32
"""Bytes that tell a format."""
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Sizes of the second header of a BMP: its first two bytes alone, BM, begin texts as well."""
_NETPBM = re.compile(rb"P[1-6][ \t\r\n]+[0-9#]")
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II[*+]\x00|MM\x00[*+]|RIFF....WEBP|"
    rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51|qoif|....ftypavi[fs]",
    re.DOTALL,
)

_ENDING_BY_MAGIC = (
    (rb"\xff\xd8\xff", ".jpg"), (rb"\x89PNG", ".png"), (rb"GIF8", ".gif"),
    (rb"RIFF....WEBP", ".webp"), (rb"II[*+]\x00|MM\x00[*+]", ".tif"), (rb"qoif", ".qoi"),
    (rb"....ftypavi[fs]", ".avif"), (rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51", ".jp2"),
    (rb"P[1-6][ \t\r\n]", ".pnm"),
)  # fmt: skip


def why_not_a_picture(path: Path) -> str | None:
    """Return why a file of a folder is not used as a picture; None if it is.

    The reason is short and the same for files alike, so that they can be counted: ``.txt``.
    """
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return None
    if ending in HEIC_ENDINGS:
        return None if reads_heic() else f"{ending} ({HEIC_ADVICE})"
    if ending in _RAW_ENDINGS:
        return f"{ending} ({RAW_ADVICE})"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return f"{ending or 'file'} that cannot be opened ({error.strerror})"
    if is_heic(head):
        return None if reads_heic() else f".heic ({HEIC_ADVICE})"
    return None if _is_picture(head) else ending or "without an ending"


def _is_picture(head: bytes) -> bool:
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return _MAGIC.match(head) is not None or _NETPBM.match(head) is not None


def format_ending(head: bytes) -> str:
    """Return the usual ending of a picture by its first bytes; ``.img`` if they tell none."""
    for magic, ending in _ENDING_BY_MAGIC:
        if re.match(magic, head, re.DOTALL):
            return ending
    return ".heic" if is_heic(head) else ".bmp" if head[:2] == b"BM" else ".img"


def is_heic(head: bytes) -> bool:
    """Whether a file with these first bytes is HEIC or HEIF (ISO/IEC 23008-12)."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def is_raw(path: Path) -> bool:
    """Whether a file's ending is that of a camera's raw files."""
    return path.suffix.lower() in _RAW_ENDINGS


@cache
def reads_heic() -> bool:
    """Whether HEIC can be read here: pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None
