"""``export --to c``: the runtime as one .c and one .h, the model as an array, a main, a Makefile.

The runtime's files have no functions or types in common, so they can be concatenated.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from squeezenet import __version__
from squeezenet.client import Classifier

RUNTIME = (Path(str(files("squeezenet"))) / "_runtime").resolve()
_LOCAL_INCLUDE = re.compile(r'^#include "([^"]*)"\n', re.MULTILINE)
_MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)
_BYTES_PER_LINE = 20
C_FILES = ("sqz.h", "sqz.c", "model.h", "model.c", "main.c", "Makefile")
"""The files of the folder."""


def c_project(data: bytes, name: str) -> dict[str, bytes]:
    """Return the files of a folder that classifies with the ``.sqz`` file ``data``.

    Raises:
        FloatOnlyError: the file is for float32 alone.
        FormatError: it is not a valid file.
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
    files = {
        "sqz.h": (RUNTIME / "sqz.h").read_text(),
        "sqz.c": amalgamated(),
        "model.h": f"{about}{_MODEL_H}",
        "model.c": f'#include "model.h"\n\nconst unsigned char model[] = {{\n{_array(data)}}};\n'
        "const unsigned long model_size = sizeof model;\n\n"
        f"const char *const model_classes[] = {{\n{classes}}};\n",
        "main.c": (RUNTIME / "examples" / "embedded.c").read_text(),
        "Makefile": _MAKEFILE,
    }
    return {name: text.encode() for name, text in files.items()}


def amalgamated() -> str:
    """Return the whole runtime as one source file.

    Each header of the runtime comes where it is first included. Macros of a .c file end with it,
    since other files may have macros of the same name.
    """
    parts = [
        f"/* The runtime of squeezenet {__version__} as one file, made by squeezenet export.\n"
        f" * Licence: Apache-2.0. */\n"
        '#include "sqz.h"\n'
    ]
    included = {RUNTIME / "sqz.h"}
    for folder in ("src", "kernels"):
        for source in sorted((RUNTIME / folder).glob("sqz_*.c")):
            parts.append(_with_headers(source, included))
            macros = dict.fromkeys(_MACRO.findall(source.read_text()))
            parts += [f"#undef {name}\n" for name in macros]
    return "".join(parts)


def _with_headers(source: Path, included: set[Path]) -> str:
    """Return a file after the headers that it is the first to include, without the includes."""
    text = source.read_text()
    headers = []
    for name in _LOCAL_INCLUDE.findall(text):
        header = (source.parent / name).resolve()
        if header not in included:
            included.add(header)
            headers.append(_with_headers(header, included))
    return f"{''.join(headers)}\n/* ---- {source.name} ---- */\n{_LOCAL_INCLUDE.sub('', text)}"


def _array(data: bytes) -> str:
    lines = (data[i : i + _BYTES_PER_LINE] for i in range(0, len(data), _BYTES_PER_LINE))
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
