"""Checkpoints of method ``rd`` in its work folder: curvatures and quantized networks, as .npz.

They end with a checksum (``sealed_files``): what is damaged is as if it were not there. So is what
is not of the network, whatever its checksum says. The names, types and shapes of all arrays are
known beforehand, so nothing that the file says about them is believed: bytes are compared.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import Conv, Graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.codec.numerics import SCALE_MANTISSA_BITS, Float32Array, mantissa_bits
from squeezenet.codec.types import MAX_LEVEL, ActivationScale
from squeezenet.compress.rate_distortion.class_fisher import max_rank
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
)
from squeezenet.model.stored_zip import ZipError, find_bytes, read_directory
from squeezenet.sealed_files import read_sealed, write_sealed

_ACTIVATION = ":activation"
_LAYER_TYPES = {
    "shape": np.int64,
    "trellis": np.bool_,
    "codes": np.int8,
    "scales": np.float32,
    "bias": np.float64,
    "bias_curvature": np.float64,
}
"""Types of the arrays of a layer, by what follows its name and a colon."""

T = TypeVar("T")
_Array: TypeAlias = npt.NDArray[Any]


class _NotOfTheNetworkError(Exception):
    """An array is missing, or of another type or shape, or has values that no work leaves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A quantized network after ``passes`` of scale and bias correction.

    ``activations``: the activation scales that the correction is for.
    """

    passes: int
    network: QuantizedNetwork
    activations: Mapping[str, ActivationScale]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint atomically: a kill never leaves half a file."""
    arrays: dict[str, _Array] = {
        "passes": np.array(checkpoint.passes, np.int64),
        "lambda": np.array(checkpoint.network.lambda_, np.float64),
    }
    for name, scale in checkpoint.activations.items():
        arrays[f"{name}{_ACTIVATION}"] = np.array([scale.scale, scale.zero_point], np.float64)
    for name, layer in checkpoint.network.levels.items():
        values = {
            "shape": layer.weight_shape,
            "trellis": layer.trellis,
            "codes": layer.codes_OP,
            "scales": layer.scales_O,
            "bias": layer.bias_O,
            "bias_curvature": layer.bias_curvature,
        }
        for part, dtype in _LAYER_TYPES.items():
            arrays[f"{name}:{part}"] = np.asarray(values[part]).astype(dtype)
    _write(path, arrays)


def load_checkpoint(path: Path, graph: Graph) -> Checkpoint | None:
    """Return what ``save_checkpoint`` wrote for the graph; None if there is none.

    None too if it is damaged, or of another network.
    """
    return _read(path, lambda arrays: _checkpoint(arrays, graph))


def _checkpoint(arrays: _Arrays, graph: Graph) -> Checkpoint:
    passes = int(arrays.take("passes", (), np.int64))
    lambda_ = float(arrays.take("lambda", (), np.float64))
    _require(passes >= 0 and 0 < lambda_ < math.inf)
    levels = {conv.name: _layer(arrays, conv) for conv in graph.convs}
    names = [name for name in scaled_tensors(graph) if arrays.has(f"{name}{_ACTIVATION}")]
    _require(len(names) in (0, len(scaled_tensors(graph))))
    return Checkpoint(
        passes=passes,
        network=QuantizedNetwork(levels=levels, lambda_=lambda_),
        activations={name: _activation(arrays, name) for name in names},
    )


def _layer(arrays: _Arrays, conv: Conv) -> QuantizedLayer:
    num_outputs = conv.out_channels
    shapes = {
        "shape": (4,),
        "codes": (num_outputs, conv.num_weights // num_outputs),
        "scales": (num_outputs,),
        "bias": (num_outputs,),
    }
    parts = {
        part: arrays.take(f"{conv.name}:{part}", shapes.get(part, ()), dtype)
        for part, dtype in _LAYER_TYPES.items()
    }
    scales_O, bias_curvature = parts["scales"], float(parts["bias_curvature"])
    _require(tuple(parts["shape"].tolist()) == conv.weight_shape)
    _require(bool((scales_O >= np.finfo(np.float32).tiny).all() and np.isfinite(scales_O).all()))
    _require(mantissa_bits(scales_O) <= SCALE_MANTISSA_BITS)
    _require(bool(np.isfinite(parts["bias"]).all()) and 0 <= bias_curvature < math.inf)
    layer = QuantizedLayer(
        weight_shape=conv.weight_shape,
        trellis=bool(parts["trellis"]),
        codes_OP=parts["codes"].astype(np.int64),
        scales_O=scales_O,
        bias_O=parts["bias"],
        bias_curvature=bias_curvature,
    )
    _require(int(np.abs(layer.levels_OP).max(initial=0)) <= MAX_LEVEL)
    return layer


def _activation(arrays: _Arrays, name: str) -> ActivationScale:
    scale, zero_point = arrays.take(f"{name}{_ACTIVATION}", (2,), np.float64).tolist()
    _require(float(zero_point).is_integer())
    try:
        return ActivationScale(scale=scale, zero_point=int(zero_point))
    except AssertionError:
        raise _NotOfTheNetworkError from None


def save_curvatures(path: Path, curvatures: Mapping[str, Curvature]) -> None:
    """Write the layers' curvatures atomically."""
    _write(
        path,
        {
            f"{name}:{field.name}": getattr(curvature, field.name)
            for name, curvature in curvatures.items()
            for field in dataclasses.fields(curvature)
        },
    )


def load_curvatures(path: Path, graph: Graph) -> dict[str, Curvature] | None:
    """Return what ``save_curvatures`` wrote for the graph; None as for ``load_checkpoint``."""
    return _read(path, lambda arrays: {c.name: _curvature(arrays, c) for c in graph.convs})


def _curvature(arrays: _Arrays, conv: Conv) -> Curvature:
    num_inputs = conv.num_weights // conv.out_channels
    num_outputs = conv.out_channels // conv.groups
    shapes = {
        "fisher_GPP": (conv.groups, num_inputs, num_inputs),
        "output_GQQ": (conv.groups, num_outputs, num_outputs),
        "mean_GP": (conv.groups, num_inputs),
        "moment_GPP": (conv.groups, num_inputs, num_inputs),
    }
    found = {
        part: arrays.take(f"{conv.name}:{part}", shape, np.float64)
        for part, shape in shapes.items()
    }
    _require(all(bool(np.isfinite(array).all()) for array in found.values()))
    return Curvature(**found)


def save_class_fisher(path: Path, roots_KRP: Float32Array) -> None:
    """Write the last layer's ``class_fisher`` atomically."""
    _write(path, {"roots": roots_KRP})


def load_class_fisher(path: Path, graph: Graph) -> Float32Array | None:
    """Return what ``save_class_fisher`` wrote for the graph; None as for ``load_checkpoint``."""
    conv = graph.convs[-1]
    shape = (conv.out_channels, max_rank(conv), conv.num_weights // conv.out_channels)

    def parse(arrays: _Arrays) -> Float32Array:
        roots_KRP: Float32Array = arrays.take("roots", shape, np.float32)
        _require(bool(np.isfinite(roots_KRP).all()))
        return roots_KRP

    return _read(path, parse)


def _require(condition: bool) -> None:
    if not condition:
        raise _NotOfTheNetworkError


class _Arrays:
    """The arrays of an .npz that ``_write`` wrote."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._entries = read_directory(io.BytesIO(data), len(data))

    def has(self, name: str) -> bool:
        return f"{name}.npy" in self._entries

    def take(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> _Array:
        """Return an array of this type and shape.

        Raises:
            _NotOfTheNetworkError: there is none.
            ZipError: it does not lie inside the file.
        """
        _require(self.has(name))
        entry = self._entries[f"{name}.npy"]
        start = find_bytes(io.BytesIO(self._data), len(self._data), entry)
        content = self._data[start : start + entry.num_bytes]
        header = _header(shape, np.dtype(dtype))
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        _require(content.startswith(header) and len(content) == len(header) + num_bytes)
        return np.frombuffer(content, dtype, offset=len(header)).reshape(shape).copy()


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What numpy writes before an array's values."""
    header = io.BytesIO()
    descr = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, descr)
    return header.getvalue()


def _write(path: Path, arrays: Mapping[str, _Array]) -> None:
    buffer = io.BytesIO()
    rows = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    np.savez(buffer, **rows)  # type: ignore[arg-type]
    write_sealed(path, lambda file: file.write(buffer.getbuffer()))


def _read(path: Path, parse: Callable[[_Arrays], T]) -> T | None:
    data = read_sealed(path)
    if data is None:
        return None
    try:
        return parse(_Arrays(data))
    except (ZipError, _NotOfTheNetworkError):
        return None  # a right checksum over what is no checkpoint
