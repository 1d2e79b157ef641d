"""What ``squeezenet compress --json`` printed of a file: its search, its stages, what it lost."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet.errors import UsageError

MAX_BYTES = 1 << 20
"""The JSON of the largest network takes 30 KB."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One network of the search: bytes of its file, and predicted KL divergence in nats."""

    bytes: int
    divergence: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network while its levels were trained: seconds until then, bytes of its file, and its
    measured KL divergence in nats."""

    seconds: float
    bytes: int
    divergence: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the compression: its bytes, and its accuracies in percent if known."""

    name: str
    bytes: int
    top1: float | None
    top5: float | None


@dataclass(frozen=True, kw_only=True)
class CompressionHistory:
    """How a file came to be. ``agreement`` in percent and ``kl`` in nats are of the file itself,
    measured on ``images`` images."""

    file_bytes: int
    search: tuple[Tried, ...]
    training: tuple[Trained, ...]
    stages: tuple[Stage, ...]
    agreement: float
    kl: float
    images: int


def read_history(path: Path, file_bytes: int) -> CompressionHistory:
    """Read what ``compress --json`` printed for a file of so many bytes.

    Raises:
        UsageError: it cannot be read, is nothing of the kind, or is of another file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError
        history = _parsed(json.loads(data))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UsageError(
            f"{path}: is not what squeezenet compress --json prints; give the file that its "
            "standard output went to"
        ) from None
    if history.file_bytes != file_bytes:
        raise UsageError(
            f"{path}: is of a file of {history.file_bytes:,} bytes, the model has {file_bytes:,}; "
            "give what compress printed for this model"
        )
    return history


def _parsed(data: Any) -> CompressionHistory:
    return CompressionHistory(
        file_bytes=_number(data["file_bytes"], int),
        search=tuple(
            Tried(
                bytes=_number(each["bytes"], int, 1),
                divergence=_number(each["divergence"], float),
            )
            for each in data["search"]
        ),
        training=tuple(
            Trained(
                seconds=_number(each["seconds"], float),
                bytes=_number(each["bytes"], int, 1),
                divergence=_number(each["divergence"], float),
            )
            for each in data.get("training", ())
        ),
        stages=tuple(
            Stage(
                name=str(each["stage"]),
                bytes=_number(each["bytes"], int),
                top1=None if each["top1"] is None else _number(each["top1"], float),
                top5=None if each["top5"] is None else _number(each["top5"], float),
            )
            for each in data["stages"]
        ),
        agreement=_number(data["comparison"]["agreement"], float),
        kl=_number(data["comparison"]["kl"], float),
        images=_number(data["measured_images"], int),
    )


def _number(value: Any, kind: type, least: float = 0) -> Any:
    """A finite number of at least ``least``; a whole one if ``kind`` is int."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    if not (math.isfinite(value) and value >= least and (kind is float or value == int(value))):
        raise ValueError
    return kind(value)
