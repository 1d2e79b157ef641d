"""Our ``.safetensors``: weights under torchvision's keys, the record in the metadata.

The metadata has a single key, ``squeezenet``, with the record's canonical JSON. safetensors writes
several keys in no fixed order, and equal models must give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from squeezenet.arch.record import ModelRecord
from squeezenet.errors import (
    LossyConversionError,
    MalformedError,
    SpecError,
    TruncatedError,
    UnknownFormatError,
)
from squeezenet.files import write_bytes_atomically
from squeezenet.model.loaded import LoadedModel, from_state

_METADATA_KEY = "squeezenet"


def save_safetensors(path: Path, record: ModelRecord, state: Mapping[str, torch.Tensor]) -> None:
    """Write a record and a state_dict atomically."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    write_bytes_atomically(path, save(tensors, {_METADATA_KEY: record.to_json()}))


def with_half_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Round convolution weights to float16; biases and batch normalisation do not change.

    Raises:
        LossyConversionError: a weight is too large for float16.
    """
    rounded = {key: t.half() if t.ndim == 4 else t for key, t in state.items()}
    for key, tensor in rounded.items():
        if not bool(torch.isfinite(tensor).all()):
            raise LossyConversionError(f"{key}: too large a weight for 16 bits; leave out --half")
    return rounded


def load_safetensors(path: Path) -> LoadedModel:
    """Read what ``save_safetensors`` wrote.

    Raises:
        TruncatedError: it is not a complete .safetensors file.
        UnknownFormatError: it has no record of ours.
        MalformedError: the record is invalid.
        WeightsError: the weights are not those of the record's network.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise TruncatedError(
            f"{path}: not a whole .safetensors file ({error}); copy it again"
        ) from None
    if _METADATA_KEY not in metadata:
        raise UnknownFormatError(
            f"{path}: a .safetensors file without squeezenet's record in its metadata; expected "
            "one that squeezenet wrote"
        )
    try:
        record = ModelRecord.from_json(metadata[_METADATA_KEY])
    except SpecError as error:
        raise MalformedError(f"{path}: {error}") from None
    return from_state(record, state, str(path))
