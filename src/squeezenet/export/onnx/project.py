"""The files of ``export --to onnx``: up to three graphs, and a page that says how to run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from squeezenet.arch.graph import build_graph
from squeezenet.codec.container import decode
from squeezenet.codec.onnx_metadata import seal
from squeezenet.codec.types import CompressedModel
from squeezenet.errors import FloatOnlyError, LimitError
from squeezenet.export.onnx import ABOUT_FILE, EXACT_FILE, FLOAT_FILE, INT8_FILE
from squeezenet.export.onnx.builder import OnnxBuilder, network_input
from squeezenet.export.onnx.exact_graph import write_exact_graph
from squeezenet.export.onnx.float_graph import write_float_graph
from squeezenet.export.onnx.int8_graph import saturating_layers, write_int8_graph
from squeezenet.export.onnx.preprocessing import image_input, write_preprocessing
from squeezenet.export.onnx.readme import EXACT, FLOAT32, about_folder, about_int8

_Writer = Callable[[OnnxBuilder, CompressedModel], None]


def onnx_project(data: bytes, name: str, *, preprocessing: bool) -> dict[str, bytes]:
    """Return the files of a folder with the ``.sqz`` file ``data`` as ONNX.

    With ``preprocessing`` the graphs take pictures of any size instead of normalised pixels. A
    file for float32 alone gives ``float32.onnx`` alone.

    Raises:
        FormatError: it is not a valid file.
    """
    model = decode(data, name)
    files, about = {}, {}
    for file, make in (
        (FLOAT_FILE, float_model),
        (INT8_FILE, int8_model),
        (EXACT_FILE, exact_model),
    ):
        try:
            made = make(model, preprocessing=preprocessing)
        except (FloatOnlyError, LimitError):  # what integer clients refuse, too
            continue
        files[file] = made.SerializeToString(deterministic=True)
        about[file] = made.doc_string
    page = about_folder(model.record, name, about, preprocessing=preprocessing)
    return files | {ABOUT_FILE: page.encode()}


def float_model(model: CompressedModel, *, preprocessing: bool = False) -> Any:
    """Return the float32 graph as a ``ModelProto``."""
    return _make(model, write_float_graph, "float32", FLOAT32, preprocessing=preprocessing)


def int8_model(model: CompressedModel, *, preprocessing: bool = False) -> Any:
    """Return the int8 graph as a ``ModelProto``.

    Raises:
        FloatOnlyError, LimitError: integer clients do not run the model.
    """
    about = about_int8(saturating_layers(model) if model.is_integer else ())
    return _make(model, write_int8_graph, "int8", about, preprocessing=preprocessing)


def exact_model(model: CompressedModel, *, preprocessing: bool = False) -> Any:
    """Return the exact graph as a ``ModelProto``.

    Raises:
        FloatOnlyError, LimitError: see ``write_exact_graph``.
    """
    return _make(model, write_exact_graph, "exact", EXACT, preprocessing=preprocessing)


def _make(
    model: CompressedModel, write: _Writer, arithmetic: str, about: str, *, preprocessing: bool
) -> Any:
    builder, spec = OnnxBuilder(), model.record.spec
    if preprocessing:
        write_preprocessing(builder, model.record.preprocessing)
    source = image_input() if preprocessing else network_input(build_graph(spec))
    write(builder, model)
    made = builder.model(spec.name, source, spec.num_classes, about)
    seal(made, model.record, arithmetic)
    return made
