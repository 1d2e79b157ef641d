"""Recognise the kind of a model argument from its content, and find the file of its weights.

The suffix of a name is ignored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.codec.magic import MAGIC
from squeezenet.errors import LimitError, TruncatedError, UnknownFormatError, UsageError

if TYPE_CHECKING:
    from squeezenet.codec.types import CompressedModel

MAX_MODEL_BYTES = 1 << 30
"""Twice the float32 bytes of the largest network that the format allows (``MAX_WEIGHTS``)."""
BEST_WEIGHTS = "best.safetensors"
LAST_WEIGHTS = "last.safetensors"
"""The weights in a run folder: of the best and of the last epoch. The best are the model."""
DEFAULT = "default"
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "cifar10.sqz"
"""The word that stands for a model, and the model: the network that comes with the package."""
_HEAD_BYTES = 256
"""Bytes read to recognise a file; the longest header needed, Han's, has 104."""
_ONNX_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72)
"""Tags of the fields of ONNX's ModelProto that may follow the IR version."""
_MAX_SAFETENSORS_HEADER = 100_000_000
"""Limit of the safetensors format."""


class ModelKind(Enum):
    """The kinds of files and folders that hold a model."""

    RUN_FOLDER = "run folder"
    SQZ = ".sqz"
    HAN_NET = "Han's .net"
    SAFETENSORS = ".safetensors"
    TORCH_PTH = "torch .pth"
    ONNX = ".onnx"

    @property
    def is_compressed(self) -> bool:
        """Whether ``read_compressed`` reads it, without torch."""
        return self in (ModelKind.SQZ, ModelKind.HAN_NET)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """The file with a model's weights.

    ``argument`` is the kind of the path that the user gave: a run folder, or equal to ``kind``.
    """

    path: Path
    kind: ModelKind
    argument: ModelKind

    @property
    def num_bytes(self) -> int:
        """Size of the file on disk."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file in hex, computed at the first access."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def model_path(word: str) -> Path:
    """Return the path that a model argument means: of the word ``default``, ``DEFAULT_MODEL``."""
    return DEFAULT_MODEL if word == DEFAULT else Path(word)


def find_model(path: Path) -> SourceFile:
    """Find the file of a model argument; for a run folder, its best weights.

    Raises:
        UsageError: ``path`` does not exist, or is a folder without best weights.
        UnknownFormatError, TruncatedError, LimitError: see ``model_kind``.
    """
    argument = model_kind(path)
    if argument is not ModelKind.RUN_FOLDER:
        return SourceFile(path=path, kind=argument, argument=argument)
    best = path / BEST_WEIGHTS
    if not best.is_file():
        raise UsageError(f"{path}: no {BEST_WEIGHTS} inside; expected the folder of a run")
    return SourceFile(path=best, kind=model_kind(best), argument=argument)


def model_kind(path: Path) -> ModelKind:
    """Recognise a model file or run folder from its content.

    Raises:
        UsageError: ``path`` does not exist.
        UnknownFormatError: the file is not a model of a known kind.
        TruncatedError: the file is empty.
        LimitError: the file is larger than ``MAX_MODEL_BYTES``.
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
        head = file.read(_HEAD_BYTES)
    if MAGIC.startswith(head[: len(MAGIC)]):
        return ModelKind.SQZ
    # Before pickles: the length of a safetensors header may begin with any byte, such as 0x80.
    header_bytes = int.from_bytes(head[:8], "little")
    if head[8:10] == b'{"' and 2 <= header_bytes <= _MAX_SAFETENSORS_HEADER:
        return ModelKind.SAFETENSORS
    if head.startswith(b"PK\x03\x04") or head[:1] == b"\x80":  # zip archive, or bare pickle
        return ModelKind.TORCH_PTH
    from squeezenet.codec import han

    if han.expected_bytes(head) is not None:
        return ModelKind.HAN_NET
    if _begins_as_onnx(head):
        return ModelKind.ONNX
    raise UnknownFormatError(
        f"{path}: not a model that squeezenet knows; expected a run folder, .sqz, .safetensors, "
        "torch's .pth, Han's .net, or an .onnx that export wrote"
    )


def _begins_as_onnx(head: bytes) -> bool:
    """Whether bytes may begin an ONNX file, which has no magic: a protobuf message of few fields.

    The first is the IR version, a small number; the next is one of the model's others.
    """
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] < 0x40 and head[2] in _ONNX_FIELDS


def is_sqz(path: Path) -> bool:
    """Whether ``path`` is a file that begins with the magic of ``.sqz``."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_compressed(source: SourceFile) -> CompressedModel:
    """Read a compressed model; ``source.kind.is_compressed`` must hold.

    Raises:
        FormatError: see ``read_sqz`` and ``read_net``.
    """
    assert source.kind.is_compressed
    from squeezenet.codec import container, han

    if source.kind is ModelKind.SQZ:
        return container.read_sqz(source.path)
    return han.read_net(source.path)
