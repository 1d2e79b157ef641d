"""Attacks by pictures, and by the names of files and folders."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from attack import PROOF, Attack
from models import VECTORS
from PIL import Image

_MODEL = str(VECTORS / "accept" / "folded.sqz")
_ESCAPE = "\x1b]0;attacked\x07\x9b31m"


def attacks() -> list[Attack]:
    """Return all attacks by pictures and names."""
    return [
        Attack(
            name="picture: 4 gigapixels",
            goal="memory exhaustion by a picture of a few bytes that claims to be huge",
            defence="the size is checked before decoding; at most 134 megapixels are allowed",
            make=_huge,
            message="pixels",
        ),
        Attack(
            name="picture: 121 megapixels in colours with transparency",
            goal="memory exhaustion by a picture within the limit of pixels, whose conversion "
            "takes several copies",
            defence="the memory of decoding is reckoned by format before, at most 1 GB is allowed; "
            "conversions go strip by strip",
            make=_transparent,
            message="MB, expected at most 1024 MB",
        ),
        Attack(
            name="picture: progressive JPEG of 121 megapixels",
            goal="the same, by the coefficients that a decoder keeps of a progressive JPEG",
            defence="their memory is counted as well",
            make=_progressive,
            message="MB, expected at most 1024 MB",
        ),
        Attack(
            name="picture: 100000 pixels by 1",
            goal="memory exhaustion by a resize that makes a long picture far longer",
            defence="only the crop of the resized picture is ever computed",
            make=_long,
            message="label",
            exit_code=0,
        ),
        Attack(
            name="picture: PostScript",
            goal="execution of a program, by a decoder that passes such files to Ghostscript",
            defence="only formats that Pillow decodes itself are opened, whatever the "
            "file's suffix",
            make=_postscript,
            message="picture.jpg",
        ),
        Attack(
            name="picture: name with terminal escapes",
            goal="control of the terminal on which a folder is classified",
            defence="names are printed with control characters escaped, in every output format",
            make=_named,
            message="\\u001b",
            exit_code=0,
        ),
        Attack(
            name="folder: links that lead back",
            goal="endless work by a folder with twenty links to itself, twenty more in each",
            defence="links are followed, each real folder once",
            make=_loops,
            message='"link to a folder that is used already": 20',
            exit_code=0,
        ),
        Attack(
            name="folder: class with terminal escapes",
            goal="the same, by the name of a folder",
            defence="a class must have a printable name",
            make=_class_name,
            message="class",
        ),
    ]


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return a grey PNG; ``rows`` are uncompressed, each with its filter byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _predict(path: Path) -> list[str]:
    return ["predict", _MODEL, str(path), "--format", "jsonl", "--strict"]


def _huge(folder: Path) -> list[str]:
    path = folder / "picture.png"
    path.write_bytes(png(1 << 16, 1 << 16, bytes(1000)))
    return _predict(path)


def _transparent(folder: Path) -> list[str]:
    path = folder / "picture.png"
    side = 11_000
    image = Image.new("RGBA", (8, 8))
    image.save(path)
    content = bytearray(path.read_bytes())
    # The header claims more than there is: what is refused is never decoded.
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return _predict(path)


def _progressive(folder: Path) -> list[str]:
    path = folder / "picture.jpg"
    Image.new("RGB", (8, 8)).save(path, progressive=True)
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc2")  # start of frame: length, precision, height, width
    content[frame + 5 : frame + 9] = struct.pack(">HH", 11_000, 11_000)
    path.write_bytes(content)
    return _predict(path)


def _loops(folder: Path) -> list[str]:
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "0.png").write_bytes(png(8, 8, bytes(72)))
    for i in range(20):
        (pictures / f"loop{i}").symlink_to(pictures)
    return ["predict", _MODEL, str(pictures), "--json"]


def _long(folder: Path) -> list[str]:
    path = folder / "picture.png"
    path.write_bytes(png(100_000, 1, bytes(100_001)))
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
    path.write_bytes(png(8, 8, bytes(72)))
    return _predict(path)


def _class_name(folder: Path) -> list[str]:
    for name in ("good", _ESCAPE):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(4):
            (folder / "data" / name / f"{i}.png").write_bytes(png(8, 8, bytes(72)))
    return [
        "train", str(folder / "data"), "--arch", "squeezenet_tiny", "--out", str(folder / "run")
    ]  # fmt: skip
