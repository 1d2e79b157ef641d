"""A ``.sqz`` on the compiled runtime, for bytes: without NumPy, which takes longer to load than an
answer. ``Classifier`` is the same for arrays and pictures of all kinds.
"""

from __future__ import annotations

import math
import os
from array import array
from pathlib import Path
from typing import IO, Any, NamedTuple

from squeezenet._native import STACK_BYTES, NativeModel, kernels
from squeezenet.arch.labels import check_labels
from squeezenet.codec.labels import split_labels
from squeezenet.codec.magic import MAX_FILE_BYTES, read_file
from squeezenet.codec.model_kinds import DEFAULT, model_path
from squeezenet.errors import (
    ChecksumError,
    FloatOnlyError,
    FormatError,
    LimitError,
    MalformedError,
    SpecError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    UsageError,
)
from squeezenet.files import read_open_file

_ERRORS: dict[int, type[FormatError]] = {
    1: UnknownFormatError,
    2: TruncatedError,
    3: ChecksumError,
    4: UnsupportedVersionError,
    5: LimitError,
    6: MalformedError,
    7: FloatOnlyError,
}
"""What the runtime's error codes mean; others are wrong use of the runtime."""
__all__ = ["STACK_BYTES", "Engine", "Prediction", "available_kernels"]
LOGIT_UNIT = 1 / 65536
"""What 1 in an integer logit stands for."""
MAX_THREADS = 64


class Prediction(NamedTuple):
    """A class, its id where the model has ids, and its probability."""

    label: str
    id: str | None
    probability: float


class Engine:
    """A model that is ready to run, on bytes.

    ``model``: the path of a ``.sqz``, its bytes, a file object open for reading bytes, or the word
    ``default``, the network for CIFAR-10 that comes with the package. ``threads`` compute one image
    together. ``kernels`` names the inner loops, by default the fastest of this machine; all give
    the same logits. ``streamed`` leaves the weights compressed in memory and unpacks them during
    each run. Any number of Python threads may call it at once. It can be pickled and copied, by
    the bytes of the file.

    ``classes`` are the names of the ``num_classes`` classes, ``class_ids`` their ids (empty where
    the model has none), ``crop_shape`` the rows, columns and channels of the pixels that it takes.

    Raises:
        FloatOnlyError: a model for float32 alone, or one by Huffman codes.
        FormatError: the file is not what it should be.
        UsageError: there is no such file, not so many threads, or no such kernels here.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | IO[bytes] = DEFAULT,
        *,
        threads: int = 1,
        kernels: str | None = None,
        streamed: bool = False,
    ) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
        self._threads, self._asked_kernels, self._streamed = threads, kernels, streamed
        self._where, self._data = _name_and_bytes(model)
        self._network = self._start()
        try:
            kind, text = self._network.labels()
        except ValueError as error:
            raise self._refusal(error) from None
        self.num_classes = self._network.num_classes
        try:
            names, ids = split_labels(kind, text.decode(), self._where)
            check_labels(names, ids, self.num_classes, self._where)
        except UnicodeDecodeError:
            raise MalformedError(f"{self._where}: names that are not UTF-8") from None
        except SpecError as error:
            raise MalformedError(str(error)) from None
        self.classes, self.class_ids = names, ids
        self.crop_shape = self._network.crop_shape

    def _start(self) -> NativeModel:
        if self._asked_kernels is not None and self._asked_kernels not in available_kernels():
            raise UsageError(
                f"no kernels {self._asked_kernels!r} here, expected one of "
                f"{', '.join(available_kernels())}"
            )
        try:
            return NativeModel(
                self._data,
                threads=self._threads,
                streamed=self._streamed,
                kernels=self._asked_kernels or "",
            )
        except ValueError as error:
            raise self._refusal(error) from None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_network"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._network = self._start()  # with the kernels of this machine, unless they were named

    def __repr__(self) -> str:
        height, width, channels = self.crop_shape
        return (
            f"{type(self).__name__}({self._where!r}, {self.num_classes} classes, "
            f"{height}x{width} {'RGB' if channels == 3 else 'grey'}, {len(self._data):,} bytes, "
            f"kernels {self.kernels!r}{', streamed' if self._streamed else ''})"
        )

    @property
    def kernels(self) -> str:
        """The name of the inner loops that run."""
        return self._network.kernels

    @property
    def arena_bytes(self) -> int:
        """Memory for activations and scratch."""
        return self._network.arena_bytes

    @property
    def memory_bytes(self) -> int:
        """Memory for tables and, unless streamed, unpacked weights."""
        return self._network.memory_bytes

    def crop_bytes(self, rgb: Any, height: int, width: int, out: Any) -> None:
        """Resize and crop RGB bytes (height, width, 3) into ``out``, bytes of ``crop_shape``.

        Raises:
            LimitError: a side is beyond 2^24, or would become endless.
        """
        try:
            self._network.crop(rgb, height, width, out)
        except ValueError as error:
            code, _ = error.args
            raise _ERRORS.get(code, FormatError)(
                f"a picture of {width}x{height} pixels, expected sides of at most 2^24 and, "
                "resized, 2^30"
            ) from None

    def run_bytes(self, pixels: Any, logits: Any) -> None:
        """Run bytes of one crop or more; ``logits`` is room for an int32 a class, in 1/65536.

        Raises:
            FormatError: streamed weights turn out to be malformed.
        """
        try:
            self._network.run(pixels, logits)
        except ValueError as error:
            raise self._refusal(error) from None

    def predict_bytes(self, rgb: Any, height: int, width: int, top: int) -> list[Prediction]:
        """Return the ``top`` best classes of RGB bytes (height, width, 3), the best first.

        Raises:
            UsageError: ``top`` is below 1.
        """
        if top < 1:
            raise UsageError(f"the best {top} classes, expected at least 1")
        pixels = bytearray(math.prod(self.crop_shape))
        logits = array("i", bytes(4 * self.num_classes))
        assert logits.itemsize == 4
        self.crop_bytes(rgb, height, width, pixels)
        self.run_bytes(pixels, logits)
        most = max(logits)
        shares = [math.exp((logit - most) * LOGIT_UNIT) for logit in logits]
        total = math.fsum(shares)
        best = sorted(range(self.num_classes), key=lambda k: -logits[k])[:top]
        return [
            Prediction(
                label=self.classes[k],
                id=self.class_ids[k] if self.class_ids else None,
                probability=shares[k] / total,
            )
            for k in best
        ]

    def _refusal(self, error: ValueError) -> FormatError:
        """What is wrong with the file: the reader in Python tells it more closely."""
        code, text = error.args
        kind = _ERRORS.get(code, FormatError)
        if kind is not FloatOnlyError:
            from squeezenet.codec.container import decode

            try:
                decode(self._data, self._where)
            except FormatError as told:
                return told
            if kind is UnsupportedVersionError:  # a good file that the runtime does not read
                return FloatOnlyError(
                    f"{self._where}: Huffman codes, which integer clients do not read; "
                    "`squeezenet convert FILE.sqz OUT.sqz` writes it anew without"
                )
        return kind(f"{self._where}: {text}")


def _name_and_bytes(model: str | os.PathLike[str] | bytes | IO[bytes]) -> tuple[str, bytes]:
    """What to call a model in messages, and the bytes of its file."""
    if isinstance(model, bytes | bytearray | memoryview):
        return "model", bytes(model)
    if isinstance(model, str | os.PathLike):
        path = model_path(model) if isinstance(model, str) else Path(model)
        return str(model), read_file(path)
    if not hasattr(model, "read"):
        raise UsageError(
            f"model: found {type(model).__name__}, expected the path of a .sqz file, its bytes, "
            f"a file object, or the word {DEFAULT}"
        )
    name, data = read_open_file(model, "model", UsageError, MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise LimitError(f"{name}: over {MAX_FILE_BYTES} bytes, the most that a .sqz has")
    return name, data


def available_kernels() -> list[str]:
    """Return the names of the inner loops that run on this machine, the fastest first."""
    return kernels()
