"""Levels on a trellis <-> the codes that a file stores for them: spec/FORMAT.md, "Trellis".

Trellis-coded quantisation (Marcellin and Fischer 1990) with the 8 states of ISO/IEC 15938-17. In
half of the states levels are even, in the others odd or 0, so a code of half the size represents
them. The code's lowest bit selects the next state. So each weight has a coarse grid, and the
weights together a finer one. Every output channel begins in state 0.

Plain and slow, as ``range_coder``; ``squeezenet._native`` does the same in C. ``levels_of_codes``
is for whole layers.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Final

import numpy as np
import numpy.typing as npt

NEXT_STATE: Final = ((0, 2), (5, 7), (1, 3), (6, 4), (2, 0), (4, 6), (3, 1), (7, 5))
"""By state and the code's lowest bit. In odd states levels are odd or 0."""


def to_levels(codes: MutableSequence[int]) -> None:
    """Convert an output channel's codes to levels, in place."""
    state = 0
    for i, code in enumerate(codes):
        sign = int(code > 0) - int(code < 0)
        codes[i] = 2 * code - sign * (state & 1)
        state = NEXT_STATE[state][code & 1]


def levels_of_codes(codes_OP: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the levels that a layer's codes stand for, an output channel per row."""
    states_O = np.zeros(len(codes_OP), np.int64)
    levels_OP = np.empty_like(codes_OP)
    next_state = np.array(NEXT_STATE)
    for p in range(codes_OP.shape[1]):
        codes_O = codes_OP[:, p]
        levels_OP[:, p] = 2 * codes_O - np.sign(codes_O) * (states_O & 1)
        states_O = next_state[states_O, codes_O & 1]
    return levels_OP


def to_codes(levels: MutableSequence[int]) -> None:
    """Convert an output channel's levels to codes, in place.

    Raises:
        ValueError: the levels are not on the trellis.
    """
    state = 0
    for i, level in enumerate(levels):
        sign = int(level > 0) - int(level < 0)
        code, remainder = divmod(level + sign * (state & 1), 2)
        if remainder:
            raise ValueError(f"level {level} at index {i} is not on the trellis")
        levels[i] = code
        state = NEXT_STATE[state][code & 1]
