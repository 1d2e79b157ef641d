"""What a model argument is, from its content; the ending of its name decides nothing."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.codec.magic import MAGIC
from squeezenet.errors import LimitError, TruncatedError, UnknownFormatError, UsageError

if TYPE_CHECKING:
    from squeezenet.codec.types import CompressedModel

MAX_MODEL_BYTES = 1 << 30
"""Twice what the most weights of a network take in float32."""


class ModelKind(Enum):
    """The kinds of files and folders that hold a model."""

    RUN_FOLDER = "run folder"
    SQZ = ".sqz"
    HAN_NET = "Han's .net"
    SAFETENSORS = ".safetensors"
    TORCH_PTH = "torch .pth"

    @property
    def is_compressed(self) -> bool:
        """Whether ``read_compressed`` reads it, without torch."""
        return self in (ModelKind.SQZ, ModelKind.HAN_NET)


def model_kind(path: Path) -> ModelKind:
    """Tell a model file or run folder by its content.

    Raises:
        UsageError: there is nothing at ``path``.
        UnknownFormatError, TruncatedError, LimitError: it is no model that we know, or too short
            or too long for one.
    """
    if path.is_dir():
        return ModelKind.RUN_FOLDER
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    size = path.stat().st_size
    if size == 0:
        raise TruncatedError(f"{path}: the file is empty; copy it again")
    if size > MAX_MODEL_BYTES:
        raise LimitError(f"{path}: {size} bytes, expected at most {MAX_MODEL_BYTES} in a model")
    with path.open("rb") as file:
        head = file.read(256)
    if MAGIC.startswith(head[: len(MAGIC)]):
        return ModelKind.SQZ
    # Before pickles: the length of a header may begin with any byte, 0x80 among them.
    header_bytes = int.from_bytes(head[:8], "little")
    if head[8:10] == b'{"' and 2 <= header_bytes <= 100_000_000:
        return ModelKind.SAFETENSORS
    if head.startswith(b"PK\x03\x04") or head[:1] == b"\x80":  # zip archive, or bare pickle
        return ModelKind.TORCH_PTH
    from squeezenet.codec import han

    if han.expected_bytes(head) is not None:
        return ModelKind.HAN_NET
    raise UnknownFormatError(
        f"{path}: not a model that squeezenet knows; expected a run folder, .sqz, .safetensors, "
        "torchvision .pth, or Han's .net"
    )


def is_sqz(path: Path) -> bool:
    """Whether ``path`` is a file that begins as a ``.sqz`` does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_compressed(path: Path, kind: ModelKind) -> CompressedModel:
    """Read a file of one of the compressed kinds."""
    assert kind.is_compressed
    from squeezenet.codec import container, han

    if kind is ModelKind.SQZ:
        return container.read_sqz(path)
    return han.read_net(path)
