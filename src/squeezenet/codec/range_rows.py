"""One output channel's levels or codes through the range coder, by the context model or raw.

Encoder and decoder share one code path: see ``range_coder``.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from squeezenet.codec.range_coder import MAX_MAGNITUDE
from squeezenet.errors import MalformedError

RAW_BITS: Final = 9
"""Bits of a raw level: spec/FORMAT.md, "WEIGHTS"."""

Rows = npt.NDArray[np.int16]


class SymbolCoder(Protocol):
    """The methods that ``squeezenet._native`` and the oracle, ``range_coder``, share."""

    def plain(self, count: int, value: int = ..., /) -> int: ...
    def number(self, slot: int, value: int = ..., /) -> int: ...
    def begin(self, inputs: int, height: int, width: int, trellis: bool = ..., /) -> None: ...
    def channel(self, levels: Any, /) -> None: ...


def code_row(coder: SymbolCoder, row_K: Rows, raw: bool, where: str) -> None:
    """Code one output channel in place.

    Raises:
        MalformedError: a raw level is out of range.
    """
    if not raw:
        coder.channel(row_K)
        return
    for i, level in enumerate(row_K.tolist()):
        row_K[i] = coder.plain(RAW_BITS, level + MAX_MAGNITUDE + 1) - MAX_MAGNITUDE - 1
    if row_K.min(initial=0) < -MAX_MAGNITUDE:
        raise MalformedError(
            f"{where}: raw level {row_K.min()}, expected at least {-MAX_MAGNITUDE}"
        )
