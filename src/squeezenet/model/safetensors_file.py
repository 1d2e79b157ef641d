"""Our ``.safetensors``: weights under torchvision's keys, the record in the metadata.

The metadata has a single key, ``squeezenet``: the record's canonical JSON, in which a last member
``sha256`` is the checksum of everything (``_checksum``). safetensors writes several keys in no
fixed order, and equal models must give equal bytes. Files of before have no checksum and are read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from squeezenet.arch.class_labels import ClassLabels
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import (
    ChecksumError,
    LossyConversionError,
    MalformedError,
    SpecError,
    TruncatedError,
)
from squeezenet.files import write_bytes_atomically
from squeezenet.model.foreign import load_foreign
from squeezenet.model.loaded import LoadedModel, from_state
from squeezenet.progress import Progress

_METADATA_KEY = "squeezenet"
_WITH_CHECKSUM = re.compile(r'(.*),"sha256":"([0-9a-f]{64})"\}', re.DOTALL)
_CHECKSUM_KEY = "sha256"
_IS_DAMAGED = (
    "its SHA-256 is not the one inside, so it was damaged or changed; copy it again from where it "
    "was written"
)
_IN_EVERY_RECORD = '"preprocessing":'


def save_safetensors(path: Path, record: ModelRecord, state: Mapping[str, torch.Tensor]) -> None:
    """Write a record and a state_dict atomically."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    text = record.to_json()
    signed = f'{text[:-1]},"sha256":"{_checksum(text, tensors)}"}}'
    write_bytes_atomically(path, save(tensors, {_METADATA_KEY: signed}))


def _checksum(record_text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 in hex of the record, then of each tensor by name: its name, type, shape, bytes."""
    digest = hashlib.sha256(record_text.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write tensors that no record describes, atomically, with a checksum in the metadata."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    write_bytes_atomically(path, save(tensors, {_CHECKSUM_KEY: _checksum("", tensors)}))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read what ``save_tensors`` wrote.

    Raises:
        TruncatedError: it is not a complete .safetensors file.
        ChecksumError: a bit of it is not what was written.
    """
    metadata, state = _read(path)
    if metadata.get(_CHECKSUM_KEY) != _checksum("", state):
        raise ChecksumError(f"{path}: {_IS_DAMAGED}")
    return state


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Return the metadata and the tensors of a file."""
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, state
    except (SafetensorError, OSError) as error:
        raise TruncatedError(
            f"{path}: not a whole .safetensors file ({error}); copy it again"
        ) from None


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


def load_safetensors(
    path: Path,
    arch: str | None = None,
    *,
    labels: ClassLabels | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Read what ``save_safetensors`` wrote, or weights of others, by ``load_foreign``.

    ``arch``, ``labels`` and ``progress`` are for weights of others.

    Raises:
        TruncatedError: it is not a complete .safetensors file.
        ChecksumError: a bit of it is not what was written.
        MalformedError: the record is invalid.
        WeightsError: the weights are not those of the record's network, or of no network.
    """
    metadata, state = _read(path)
    text = metadata.get(_METADATA_KEY)
    if text is None:
        if any(_IN_EVERY_RECORD in value for value in metadata.values()):
            raise ChecksumError(f"{path}: its metadata has been damaged; copy it again")
        return load_foreign(path, state, arch, labels=labels, progress=progress)
    if signed := _WITH_CHECKSUM.fullmatch(text):
        text = signed[1] + "}"
        if _checksum(text, state) != signed[2]:
            raise ChecksumError(f"{path}: {_IS_DAMAGED}")
    try:
        record = ModelRecord.from_json(text)
    except SpecError as error:
        raise MalformedError(f"{path}: {error}") from None
    return from_state(record, state, str(path))
