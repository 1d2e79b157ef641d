"""What a model argument is, from its content, and the file that its weights are in.

The ending of a name decides nothing.
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
"""The weights in a run folder; the best ones are the model."""
DEFAULT = "default"
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "cifar10.sqz"
"""The word that stands for a model, and the model: the network that comes with the package."""


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


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """The file that a model's weights are in.

    ``argument`` is the kind of what the user named: a run folder, or the same as ``kind``.
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
        """SHA-256 of the file, in hex; read when first asked for."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def model_path(word: str) -> Path:
    """Return the path that a model argument means: of the word ``default``, ``DEFAULT_MODEL``."""
    return DEFAULT_MODEL if word == DEFAULT else Path(word)


def find_model(path: Path) -> SourceFile:
    """Find the file that a model argument means: of a run folder, its best weights.

    Raises:
        UsageError: there is nothing at ``path``, or a folder that is no run.
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
    """Recognise a model file or run folder by its content.

    Raises:
        UsageError: there is nothing at ``path``.
        UnknownFormatError: it is no model of a known kind.
        TruncatedError: it is empty.
        LimitError: it is over ``MAX_MODEL_BYTES``.
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


def read_compressed(source: SourceFile) -> CompressedModel:
    """Read a file of one of the compressed kinds; errors as ``read_sqz``'s and ``read_net``'s."""
    assert source.kind.is_compressed
    from squeezenet.codec import container, han

    if source.kind is ModelKind.SQZ:
        return container.read_sqz(source.path)
    return han.read_net(source.path)
