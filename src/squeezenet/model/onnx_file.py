"""The float32 ONNX that ``export`` wrote, read back; other ONNX files are refused.

The network comes from the record in the metadata, the weights from the graph's constants, which
have torchvision's keys. The checksum inside says that nothing of either was changed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.codec.onnx_metadata import read_sealed
from squeezenet.errors import MalformedError, TruncatedError, UnknownFormatError, UsageError
from squeezenet.extras import require_extra
from squeezenet.model.loaded import LoadedModel, from_state

_FLOAT32 = 1
"""``TensorProto.FLOAT``."""


def load_onnx(path: Path) -> LoadedModel:
    """Read what ``export --to onnx`` wrote as float32, with preprocessing inside or without.

    Raises:
        MissingExtraError: the package ``onnx`` is not installed.
        TruncatedError: it is not a complete ONNX file.
        UnknownFormatError: another program wrote it.
        UsageError: it is the int8 graph.
        ChecksumError, MalformedError, WeightsError: it is not what was written.
    """
    require_extra("onnx", "reading an ONNX file")
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise TruncatedError(f"{path}: not a whole ONNX file; copy it again") from None
    sealed = read_sealed(model, str(path))
    if sealed is None:
        raise UnknownFormatError(
            f"{path}: an ONNX file of another program, expected a float32.onnx of squeezenet "
            "export; convert the weights that it was made from"
        )
    record, arithmetic = sealed
    if arithmetic != "float32":
        raise UsageError(
            f"{path}: has {arithmetic} weights, expected the float32.onnx beside it, or the .sqz "
            "that it was made from"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for conv in build_graph(record.spec).convs:
        shapes[f"{conv.key}.weight"] = conv.weight_shape
        shapes[f"{conv.key}.bias"] = (conv.out_channels,)
    state = {
        tensor.name: _values(tensor, shapes[tensor.name], str(path))
        for tensor in model.graph.initializer
        if tensor.name in shapes
    }
    return from_state(record, state, str(path))


def _values(tensor: Any, shape: tuple[int, ...], where: str) -> torch.Tensor:
    """Return a constant's values; never those of another file, to which ONNX may refer."""
    found = tuple(tensor.dims[: len(shape) + 1])  # it may have any number of dimensions
    is_float32 = tensor.data_type == _FLOAT32 and found == shape
    if not is_float32 or len(tensor.raw_data) != 4 * math.prod(shape):
        raise MalformedError(
            f"{where}: {tensor.name} has {len(tensor.raw_data)} bytes of type {tensor.data_type} "
            f"in the shape {found}, expected float32 in {shape}"
        )
    return torch.from_numpy(np.frombuffer(tensor.raw_data, "<f4").reshape(shape).copy())
