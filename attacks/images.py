"""Abuses of pictures, and of the names of files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from attack import PROOF, Attack
from models import VECTORS

_MODEL = str(VECTORS / "accept" / "folded.sqz")
_ESCAPE = "\x1b]0;attacked\x07\x9b31m"


def attacks() -> list[Attack]:
    """All abuses of pictures and names."""
    return [
        Attack(
            name="picture: 4 gigapixels",
            wants="memory, by a picture of a few bytes that claims to be huge",
            why="the size is asked before decoding, and 134 megapixels are the most",
            make=_huge,
            message="pixels",
        ),
        Attack(
            name="picture: 100000 pixels by 1",
            wants="memory, by a resize that makes a long picture far longer",
            why="of the resized picture only the crop is ever worked out",
            make=_long,
            message="label",
            exit_code=0,
        ),
        Attack(
            name="picture: PostScript",
            wants="to run a program, by a decoder that hands such files to Ghostscript",
            why="only formats that Pillow decodes itself are opened, whatever the name says",
            make=_postscript,
            message="picture.jpg",
        ),
        Attack(
            name="picture: name with terminal escapes",
            wants="to write to the terminal of who classifies a folder",
            why="names are printed with control characters escaped, in every format",
            make=_named,
            message="\\u001b",
            exit_code=0,
        ),
        Attack(
            name="folder: class with terminal escapes",
            wants="the same, by the name of a folder",
            why="a class must have a printable name",
            make=_class_name,
            message="class",
        ),
    ]


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A grey PNG; ``rows`` before compression, each with its filter byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _predict(path: Path) -> list[str]:
    return ["predict", _MODEL, str(path), "--format", "jsonl", "--strict"]


def _huge(folder: Path) -> list[str]:
    path = folder / "picture.png"
    path.write_bytes(_png(1 << 16, 1 << 16, bytes(1000)))
    return _predict(path)


def _long(folder: Path) -> list[str]:
    path = folder / "picture.png"
    path.write_bytes(_png(100_000, 1, bytes(100_001)))
    return _predict(path)


def _postscript(folder: Path) -> list[str]:
    path = folder / "picture.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
        b"(%pipe%touch " + bytes(folder / PROOF) + b") (w) file closefile\nshowpage\n%%EOF\n"
    )
    return _predict(path)


def _named(folder: Path) -> list[str]:
    path = folder / f"{_ESCAPE}.png"
    path.write_bytes(_png(8, 8, bytes(72)))
    return _predict(path)


def _class_name(folder: Path) -> list[str]:
    for name in ("good", _ESCAPE):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(4):
            (folder / "data" / name / f"{i}.png").write_bytes(_png(8, 8, bytes(72)))
    return [
        "train", str(folder / "data"), "--arch", "squeezenet_tiny", "--out", str(folder / "run")
    ]  # fmt: skip
