"""The targets of ``squeezenet export``: the files that each makes of a ``.sqz``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from squeezenet.export.c import C_FILES, c_project
from squeezenet.export.onnx import INT8_FILE, ONNX_FILES
from squeezenet.export.web import WEB_FILES, web_site


@dataclass(frozen=True, kw_only=True)
class Target:
    """``make`` takes the bytes of a ``.sqz`` and its name, and returns files by their names.

    ``make_with_preprocessing`` does the same for a client that takes pictures of any size; None if
    there is no such client. ``file_names``: all that both may make. ``next_step``: what to do with
    the folder ``{out}`` then. ``extra``: the optional dependency that it needs. ``note``: what to
    say of the files that were made.
    """

    about: str
    file_names: tuple[str, ...]
    make: Callable[[bytes, str], dict[str, bytes]]
    make_with_preprocessing: Callable[[bytes, str], dict[str, bytes]] | None = None
    next_step: str
    extra: str | None = None
    note: Callable[[Mapping[str, bytes]], str] = lambda files: ""


def _onnx(data: bytes, name: str) -> dict[str, bytes]:
    from squeezenet.export.onnx.project import onnx_project

    return onnx_project(data, name, preprocessing=False)


def _onnx_with_preprocessing(data: bytes, name: str) -> dict[str, bytes]:
    from squeezenet.export.onnx.project import onnx_project

    return onnx_project(data, name, preprocessing=True)


def _onnx_note(files: Mapping[str, bytes]) -> str:
    if INT8_FILE in files:
        return ""
    return f"no {INT8_FILE}: the .sqz is for float32 alone"


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
    "onnx": Target(
        about="the graph in float32 and, of integer files, in int8 (QDQ)",
        file_names=ONNX_FILES,
        make=_onnx,
        make_with_preprocessing=_onnx_with_preprocessing,
        next_step="run as {out}/README.md says",
        extra="onnx",
        note=_onnx_note,
    ),
}
