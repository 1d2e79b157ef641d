"""Write a model and a picture as constants for main.c.

    python embed.py MODEL.sqz PICTURE OUT.h

Needs ``squeezenet`` installed, whose way of decoding pictures this is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from squeezenet.images.decode import read_image

BYTES_A_LINE = 24


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    model, picture, out = map(Path, sys.argv[1:])
    pixels_HWC = read_image(picture)
    height, width = pixels_HWC.shape[:2]
    text = (
        f"/* {model.name} and {picture.name}, written by embed.py. */\n"
        f"#define PICTURE_HEIGHT {height}\n"
        f"#define PICTURE_WIDTH {width}\n"
        f"{constant('model', model.read_bytes())}"
        f"{constant('picture', pixels_HWC.tobytes())}"
    )
    out.write_text(text)


def constant(name: str, data: bytes) -> str:
    """Return the definition of an array of bytes."""
    rows = (data[i : i + BYTES_A_LINE] for i in range(0, len(data), BYTES_A_LINE))
    lines = ",\n".join(",".join(map(str, row)) for row in rows)
    where = '__attribute__((section(".assets"), aligned(4)))'
    return f"static const uint8_t {name}[] {where} = {{\n{lines}}};\n"


if __name__ == "__main__":
    main()
