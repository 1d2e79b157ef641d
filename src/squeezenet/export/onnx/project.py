"""The files of ``export --to onnx``: one or two graphs, and a page that says how to run them."""

from __future__ import annotations

from typing import Any

from squeezenet.arch.graph import build_graph
from squeezenet.codec.container import decode
from squeezenet.codec.onnx_metadata import seal
from squeezenet.codec.types import CompressedModel
from squeezenet.errors import FloatOnlyError, LimitError
from squeezenet.export.onnx import ABOUT_FILE, FLOAT_FILE, INT8_FILE
from squeezenet.export.onnx.builder import OnnxBuilder, network_input
from squeezenet.export.onnx.float_graph import write_float_graph
from squeezenet.export.onnx.int8_graph import saturating_layers, write_int8_graph
from squeezenet.export.onnx.preprocessing import image_input, write_preprocessing
from squeezenet.export.onnx.readme import about_folder, about_sums


def onnx_project(data: bytes, name: str, *, preprocessing: bool) -> dict[str, bytes]:
    """Return the files of a folder with the ``.sqz`` file ``data`` as ONNX.

    With ``preprocessing`` the graphs take pictures of any size instead of normalised pixels.
    A file for float32 alone gives no ``int8.onnx``.

    Raises:
        FormatError: it is not a valid file.
    """
    model = decode(data, name)
    files = {FLOAT_FILE: _bytes(float_model(model, preprocessing=preprocessing))}
    sums = None
    try:
        files[INT8_FILE] = _bytes(int8_model(model, preprocessing=preprocessing))
    except (FloatOnlyError, LimitError):  # what integer clients refuse, too
        pass
    else:
        sums = about_sums(saturating_layers(model))
    files[ABOUT_FILE] = about_folder(model.record, name, sums, preprocessing=preprocessing).encode()
    return files


def float_model(model: CompressedModel, *, preprocessing: bool = False) -> Any:
    """Return the float32 graph as a ``ModelProto``."""
    builder = OnnxBuilder()
    source = _source(builder, model, preprocessing=preprocessing)
    write_float_graph(builder, model)
    return _finish(builder, model, source, "float32", "Float32.")


def int8_model(model: CompressedModel, *, preprocessing: bool = False) -> Any:
    """Return the int8 graph as a ``ModelProto``.

    Raises:
        FloatOnlyError, LimitError: integer clients do not run the model.
    """
    builder = OnnxBuilder()
    source = _source(builder, model, preprocessing=preprocessing)
    write_int8_graph(builder, model)
    return _finish(builder, model, source, "int8", about_sums(saturating_layers(model)))


def _source(builder: OnnxBuilder, model: CompressedModel, *, preprocessing: bool) -> Any:
    if not preprocessing:
        return network_input(build_graph(model.record.spec))
    write_preprocessing(builder, model.record.preprocessing)
    return image_input()


def _finish(
    builder: OnnxBuilder, model: CompressedModel, source: Any, arithmetic: str, about: str
) -> Any:
    spec = model.record.spec
    made = builder.model(spec.name, source, spec.num_classes, about)
    seal(made, model.record, arithmetic)
    return made


def _bytes(model: Any) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data
