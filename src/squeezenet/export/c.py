"""``export --to c``: the runtime as one .c and one .h, the model as an array, a main, a Makefile.

The runtime's files have no functions or types in common, so they are put one behind the other.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from squeezenet import __version__
from squeezenet.client import Classifier

RUNTIME = Path(str(files("squeezenet"))) / "_runtime"
_HEADERS = ("sqz_coder.h", "sqz_levels.h", "sqz_reader.h", "sqz_runtime.h")
_LOCAL_INCLUDE = re.compile(r'^#include "[^"]*"\n', re.MULTILINE)
_MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)
_BYTES_A_LINE = 20


def c_project(data: bytes, name: str) -> dict[str, str]:
    """Return the files of a folder that classifies with the ``.sqz`` file ``data``.

    Raises:
        FloatOnlyError: the file is not for integer clients.
        FormatError: it is no good file at all.
    """
    classifier = Classifier(data, streamed=True, kernels="portable")
    loaded = Classifier(data, kernels="portable")
    classes = "".join(f"    {_string(label)},\n" for label in classifier.record.class_names)
    height, width, channels = classifier.crop_shape
    sizes = (
        f"flash: {len(data):,} bytes of model; memory: {loaded.memory_bytes:,} for unpacked weights"
        f" and\n * {loaded.arena_bytes:,} for activations, or, with options.streamed, "
        f"{classifier.memory_bytes:,} and {classifier.arena_bytes:,}."
    )
    about = (
        f"/* {_comment(name)}: {len(classifier.record.class_names)} classes, pictures of "
        f"{height}x{width}x{channels}.\n * {sizes} */\n"
    )
    return {
        "sqz.h": (RUNTIME / "sqz.h").read_text(),
        "sqz.c": amalgamated(),
        "model.h": f"{about}{_MODEL_H}",
        "model.c": f'#include "model.h"\n\nconst unsigned char model[] = {{\n{_array(data)}}};\n'
        "const unsigned long model_size = sizeof model;\n\n"
        f"const char *const model_classes[] = {{\n{classes}}};\n",
        "main.c": (RUNTIME / "examples" / "embedded.c").read_text(),
        "Makefile": _MAKEFILE,
    }


def amalgamated() -> str:
    """Return the whole runtime as one source file."""
    sources = [
        *(RUNTIME / "src" / name for name in _HEADERS),
        *sorted((RUNTIME / "src").glob("sqz_*.c")),
        *sorted((RUNTIME / "kernels").glob("sqz_*.c")),
    ]
    parts = [
        f"/* The runtime of squeezenet {__version__} as one file, made by squeezenet export.\n"
        f" * Licence: Apache-2.0. */\n"
        '#include "sqz.h"\n'
    ]
    for source in sources:
        parts.append(f"\n/* ---- {source.name} ---- */\n")
        text = _LOCAL_INCLUDE.sub("", source.read_text())
        parts.append(text)
        if source.suffix == ".c":  # its macros are its own; other files have others of that name
            parts += [f"#undef {name}\n" for name in dict.fromkeys(_MACRO.findall(text))]
    return "".join(parts)


def _array(data: bytes) -> str:
    lines = (data[i : i + _BYTES_A_LINE] for i in range(0, len(data), _BYTES_A_LINE))
    return "".join(f"    {','.join(map(str, line))},\n" for line in lines)


def _string(text: str) -> str:
    """A C string of UTF-8 bytes; octal escapes end after three digits, whatever follows."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{escaped}"'


def _comment(text: str) -> str:
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in text)


_MODEL_H = """#ifndef MODEL_H
#define MODEL_H

extern const unsigned char model[];
extern const unsigned long model_size;
extern const char *const model_classes[];

#endif
"""

_MAKEFILE = """CC ?= cc
CFLAGS ?= -O3 -Wall -Wextra -pedantic

classify: main.c model.c sqz.c model.h sqz.h
\t$(CC) -std=c99 $(CFLAGS) -o $@ main.c model.c sqz.c

clean:
\trm -f classify

.PHONY: clean
"""
