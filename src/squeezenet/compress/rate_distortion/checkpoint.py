"""What method ``rd`` keeps in its work folder to go on from, as .npz: curvatures and levels."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.level_search import LayerLevels, NetworkLevels
from squeezenet.files import write_bytes_atomically

_ACTIVATION = ":activation"


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedLevels:
    """Levels found at ``price`` and mended by ``passes`` of gains, and the scales of the
    activations that they were mended for."""

    passes: int
    price: float
    found: NetworkLevels
    activations: Mapping[str, ActivationScale]


def save_levels(path: Path, saved: SavedLevels) -> None:
    """Write them, or leave what was there: a kill never leaves half a file."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "passes": np.array(saved.passes),
        "price": np.array(saved.price),
    }
    for name, scale in saved.activations.items():
        arrays[f"{name}{_ACTIVATION}"] = np.array([scale.scale, scale.zero_point], np.float64)
    for name, layer in saved.found.items():
        arrays[f"{name}:trellis"] = np.array(layer.trellis)
        arrays[f"{name}:codes"] = layer.codes_OP.astype(np.int8)
        arrays[f"{name}:scales"] = layer.scales_O
        arrays[f"{name}:bias"] = layer.bias_O
    _write(path, arrays)


def load_levels(path: Path) -> SavedLevels | None:
    """Return what ``save_levels`` wrote, or None before it did."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        names = [key.removesuffix(":codes") for key in arrays.files if key.endswith(":codes")]
        return SavedLevels(
            passes=int(arrays["passes"]),
            price=float(arrays["price"]),
            found={
                name: LayerLevels(
                    trellis=bool(arrays[f"{name}:trellis"]),
                    codes_OP=arrays[f"{name}:codes"].astype(np.int64),
                    scales_O=arrays[f"{name}:scales"],
                    bias_O=arrays[f"{name}:bias"],
                )
                for name in names
            },
            activations={
                key.removesuffix(_ACTIVATION): ActivationScale(
                    scale=float(step), zero_point=int(zero)
                )
                for key in arrays.files
                if key.endswith(_ACTIVATION)
                for step, zero in [arrays[key]]
            },
        )


def save_curvatures(path: Path, curvatures: Mapping[str, Curvature]) -> None:
    """Write the layers' curvatures, as ``save_levels`` does."""
    _write(
        path,
        {
            f"{name}:{field.name}": getattr(curvature, field.name)
            for name, curvature in curvatures.items()
            for field in dataclasses.fields(curvature)
        },
    )


def load_curvatures(path: Path) -> dict[str, Curvature] | None:
    """Return what ``save_curvatures`` wrote, or None before it did."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
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
    write_bytes_atomically(path, buffer.getvalue())
