"""The targets of ``squeezenet export``: the files that each makes of a ``.sqz``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from squeezenet.export.c import C_FILES, c_project
from squeezenet.export.web import WEB_FILES, web_site


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
    "web": Target(
        about="a static site that classifies pictures in the browser",
        file_names=WEB_FILES,
        make=web_site,
        next_step="put it on any server of static files; try it with: squeezenet serve MODEL",
    ),
}
