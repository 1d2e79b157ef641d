"""Checkpoints of method ``rd`` in its work folder: curvatures and quantized networks, as .npz.

They end with a checksum (``sealed_files``): what is damaged is as if it were not there.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
)
from squeezenet.sealed_files import read_sealed, write_sealed

_ACTIVATION = ":activation"

T = TypeVar("T")


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
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "passes": np.array(checkpoint.passes),
        "lambda": np.array(checkpoint.network.lambda_),
    }
    for name, scale in checkpoint.activations.items():
        arrays[f"{name}{_ACTIVATION}"] = np.array([scale.scale, scale.zero_point], np.float64)
    for name, layer in checkpoint.network.levels.items():
        arrays[f"{name}:shape"] = np.array(layer.weight_shape)
        arrays[f"{name}:trellis"] = np.array(layer.trellis)
        arrays[f"{name}:codes"] = layer.codes_OP.astype(np.int8)
        arrays[f"{name}:scales"] = layer.scales_O
        arrays[f"{name}:bias"] = layer.bias_O
        arrays[f"{name}:bias_curvature"] = np.array(layer.bias_curvature)
    _write(path, arrays)


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return what ``save_checkpoint`` wrote, or None if there is none, or it is damaged."""
    return _read(path, _checkpoint)


def _checkpoint(arrays: np.lib.npyio.NpzFile) -> Checkpoint:
    names = [key.removesuffix(":codes") for key in arrays.files if key.endswith(":codes")]
    levels = {
        name: QuantizedLayer(
            weight_shape=tuple(arrays[f"{name}:shape"].tolist()),
            trellis=bool(arrays[f"{name}:trellis"]),
            codes_OP=arrays[f"{name}:codes"].astype(np.int64),
            scales_O=arrays[f"{name}:scales"],
            bias_O=arrays[f"{name}:bias"],
            bias_curvature=float(arrays[f"{name}:bias_curvature"]),
        )
        for name in names
    }
    return Checkpoint(
        passes=int(arrays["passes"]),
        network=QuantizedNetwork(levels=levels, lambda_=float(arrays["lambda"])),
        activations={
            key.removesuffix(_ACTIVATION): ActivationScale(
                scale=float(scale), zero_point=int(zero_point)
            )
            for key in arrays.files
            if key.endswith(_ACTIVATION)
            for scale, zero_point in [arrays[key]]
        },
    )


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


def load_curvatures(path: Path) -> dict[str, Curvature] | None:
    """Return what ``save_curvatures`` wrote, or None if there is none, or it is damaged."""
    return _read(path, _curvatures)


def _curvatures(arrays: np.lib.npyio.NpzFile) -> dict[str, Curvature]:
    names = dict.fromkeys(key.rpartition(":")[0] for key in arrays.files)
    return {
        name: Curvature(
            **{f.name: arrays[f"{name}:{f.name}"] for f in dataclasses.fields(Curvature)}
        )
        for name in names
    }


def _write(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_sealed(path, lambda file: file.write(buffer.getbuffer()))


def _read(path: Path, parse: Callable[[np.lib.npyio.NpzFile], T]) -> T | None:
    data = read_sealed(path)
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return parse(arrays)
    except (ValueError, TypeError, LookupError, AttributeError, zipfile.BadZipFile):
        return None  # a right checksum over what is no checkpoint
