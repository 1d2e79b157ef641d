"""A ``.sqz`` on the compiled runtime, for bytes: without NumPy, which takes longer to load than an
answer. ``Classifier`` is the same for arrays and pictures of all kinds.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet._native import Network, kernels
from squeezenet.codec.labels import split_labels
from squeezenet.errors import (
    ChecksumError,
    FloatOnlyError,
    FormatError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedVersionError,
    UsageError,
)

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
LOGIT_UNIT = 1 / 65536
MAX_THREADS = 64


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A class, its id where the model has ids, and its probability."""

    label: str
    id: str | None
    probability: float


class Engine:
    """A model that is ready to run; arguments and errors as ``Classifier``'s.

    ``crop_shape`` are the rows, columns and channels that ``run`` takes.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        threads: int = 1,
        kernels: str | None = None,
        streamed: bool = False,
    ) -> None:
        self.where = "model" if isinstance(model, bytes) else str(model)
        if not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
        if kernels is not None and kernels not in available_kernels():
            raise UsageError(
                f"no kernels {kernels!r} here, expected one of {', '.join(available_kernels())}"
            )
        self.data = model if isinstance(model, bytes) else _read(Path(model))
        self.network: Network = self._call(
            Network, self.data, threads=threads, streamed=streamed, kernels=kernels or ""
        )
        kind, text = self._call(self.network.labels)
        try:
            names, ids = split_labels(kind, text.decode(), self.where)
        except UnicodeDecodeError:
            raise MalformedError(f"{self.where}: names that are not UTF-8") from None
        self.num_classes = self.network.num_classes
        if len(names) != self.num_classes or len(ids) not in (0, self.num_classes):
            raise MalformedError(f"{self.where}: {len(names)} names of {self.num_classes} classes")
        self.class_names, self.class_ids = names, ids
        self.crop_shape = self.network.crop_shape

    def crop(self, rgb: Any, height: int, width: int, out: Any) -> None:
        """Resize and crop RGB bytes (height, width, 3) into ``out``, bytes of ``crop_shape``."""
        self._call(self.network.crop, rgb, height, width, out)

    def run(self, pixels: Any, logits: Any) -> None:
        """Run bytes of one crop or more; ``logits`` is room for an int32 a class, in 1/65536."""
        self._call(self.network.run, pixels, logits)

    def answer(self, rgb: Any, height: int, width: int, top: int) -> list[Answer]:
        """Return the ``top`` best classes of RGB bytes (height, width, 3), the best first."""
        pixels = bytearray(math.prod(self.crop_shape))
        logits = array("i", bytes(4 * self.num_classes))
        assert logits.itemsize == 4
        self.crop(rgb, height, width, pixels)
        self.run(pixels, logits)
        most = max(logits)
        shares = [math.exp((logit - most) * LOGIT_UNIT) for logit in logits]
        total = math.fsum(shares)
        best = sorted(range(self.num_classes), key=lambda k: -logits[k])[:top]
        return [
            Answer(
                label=self.class_names[k],
                id=self.class_ids[k] if self.class_ids else None,
                probability=shares[k] / total,
            )
            for k in best
        ]

    def _call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ValueError as error:
            code, text = error.args
            raise _ERRORS.get(code, FormatError)(f"{self.where}: {text}") from None


def available_kernels() -> list[str]:
    """Return the names of the inner loops that run on this machine, the fastest first."""
    return kernels()


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return path.read_bytes()
