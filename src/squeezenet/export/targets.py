"""The targets of ``squeezenet export``: the files that each makes of a ``.sqz``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from squeezenet.export.c import C_FILES, c_project


@dataclass(frozen=True, kw_only=True)
class Target:
    """``make`` takes the bytes of a ``.sqz`` and its name, and returns files by their names.

    ``file_names``: all that it may make. ``next_step``: what to do with the folder ``{out}`` then.
    """

    about: str
    file_names: tuple[str, ...]
    make: Callable[[bytes, str], dict[str, bytes]]
    next_step: str


TARGETS = {
    "c": Target(
        about="a folder that make, or cc *.c, compiles to a program",
        file_names=C_FILES,
        make=c_project,
        next_step="build with: make -C {out}",
    ),
}
