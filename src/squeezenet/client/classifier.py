"""``Classifier``: a ``.sqz`` file, ready to answer.

Legend: N images, H W C of the crop, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from squeezenet._native import Network, kernels
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import decode_record
from squeezenet.errors import (
    ChecksumError,
    FloatOnlyError,
    FormatError,
    ImageError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    UsageError,
)
from squeezenet.images.decode import Pixels, read_image
from squeezenet.images.topk import softmax, top_k

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
_LOGIT_UNIT = 1 / 65536
MAX_THREADS = 64


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A class, its id where the model has ids, and its probability."""

    label: str
    id: str | None
    probability: float


class Classifier:
    """A model that is ready to run.

    ``threads`` compute one image together. ``kernels`` names the inner loops, the fastest of this
    machine unless told; all give the same logits. ``streamed`` leaves the weights compressed in
    memory and unpacks them during each run. Any number of Python threads may call it at once.

    Raises:
        FloatOnlyError: a model for float32 alone.
        FormatError: the file is not what it should be.
        UsageError: there is no such file, or not so many threads.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        threads: int = 1,
        kernels: str | None = None,
        streamed: bool = False,
    ) -> None:
        where = "model" if isinstance(model, bytes) else str(model)
        if not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
        if kernels is not None and kernels not in available_kernels():
            raise UsageError(
                f"no kernels {kernels!r} here, expected one of {', '.join(available_kernels())}"
            )
        data = model if isinstance(model, bytes) else _read(Path(model))
        self.record: ModelRecord = decode_record(data, where)
        try:
            self._network = Network(data, threads=threads, streamed=streamed, kernels=kernels or "")
        except ValueError as error:
            code, text = error.args
            raise _ERRORS.get(code, FormatError)(f"{where}: {text}") from None
        self.crop_shape = (*self.record.preprocessing.crop, self.record.preprocessing.num_channels)

    def __call__(self, image: Any, top: int = 5) -> list[Answer]:
        """Return the ``top`` best classes of a picture, the best first.

        ``image``: a file's name, a Pillow image, or RGB pixels, uint8 (rows, columns, 3).

        Raises:
            ImageError: it cannot be read, or is no such array.
        """
        return self.answers(self.logits(self.crop(_pixels(image))[None]), top)[0]

    def answers(self, logits_NK: npt.NDArray[np.float32], top: int = 5) -> list[list[Answer]]:
        """Return for each row of logits the ``top`` best classes."""
        record = self.record
        ids = record.class_ids or (None,) * len(record.class_names)
        best_NT = top_k(logits_NK, min(top, logits_NK.shape[1]))
        return [
            [
                Answer(label=record.class_names[k], id=ids[k], probability=float(row_K[k]))
                for k in best_T
            ]
            for best_T, row_K in zip(best_NT, softmax(logits_NK), strict=True)
        ]

    def crop(self, pixels_HWC: Pixels) -> Pixels:
        """Resize and crop RGB pixels as the model's record says: uint8 of ``crop_shape``."""
        pixels_HWC = _require_picture(pixels_HWC)
        out = np.empty(self.crop_shape, np.uint8)
        self._call(self._network.crop, pixels_HWC, *pixels_HWC.shape[:2], out)
        return out

    def logits(self, pixels_NHWC: Pixels) -> npt.NDArray[np.float32]:
        """Run cropped pixels, uint8 (N, *crop_shape): logits (N, K)."""
        return (self.integer_logits(pixels_NHWC) * _LOGIT_UNIT).astype(np.float32)

    def integer_logits(self, pixels_NHWC: Pixels) -> npt.NDArray[np.int32]:
        """Run cropped pixels, uint8 (N, *crop_shape): int32 logits (N, K) in 1/65536.

        Raises:
            ImageError: the pixels have another shape or type.
        """
        pixels_NHWC = np.ascontiguousarray(pixels_NHWC)
        if pixels_NHWC.dtype != np.uint8 or pixels_NHWC.shape[1:] != self.crop_shape:
            raise ImageError(
                f"pixels are {pixels_NHWC.dtype} {pixels_NHWC.shape}, expected uint8 "
                f"(N, {', '.join(map(str, self.crop_shape))})"
            )
        out = np.empty((len(pixels_NHWC), self._network.num_classes), np.int32)
        if len(out):
            self._call(self._network.run, pixels_NHWC, out)
        return out

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

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
        except ValueError as error:
            code, text = error.args
            raise _ERRORS.get(code, FormatError)(f"{self.record.spec.name}: {text}") from None


def available_kernels() -> list[str]:
    """Return the names of the inner loops that run on this machine, the fastest first."""
    return kernels()


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return path.read_bytes()


def _pixels(image: Any) -> Pixels:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if hasattr(image, "convert"):  # a Pillow image
        image = image.convert("RGB")
    return _require_picture(np.asarray(image))


def _require_picture(pixels: npt.NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(
            f"a picture is {pixels.dtype} {pixels.shape}, expected uint8 (rows, columns, 3)"
        )
    return np.ascontiguousarray(pixels)
