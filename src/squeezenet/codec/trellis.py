"""Levels on a trellis <-> the codes that a file has for them: spec/FORMAT.md, "Trellis".

In each of 8 states a level is even, or odd, or 0, so that a code of half its size says it; the
code's lowest bit leads to the next state. So each weight has a coarse grid, and all together a
finer one (trellis-coded quantisation, Marcellin and Fischer 1990; the states are those of
ISO/IEC 15938-17). Every output channel begins in state 0.

As ``codec.coder``, plain and slow; ``squeezenet._native`` does the same.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Final

NEXT_STATE: Final = ((0, 2), (5, 7), (1, 3), (6, 4), (2, 0), (4, 6), (3, 1), (7, 5))
"""By state and the code's lowest bit. In odd states levels are odd, or 0."""


def to_levels(codes: MutableSequence[int]) -> None:
    """Turn an output channel's codes into its levels, in place."""
    state = 0
    for i, code in enumerate(codes):
        sign = int(code > 0) - int(code < 0)
        codes[i] = 2 * code - sign * (state & 1)
        state = NEXT_STATE[state][code & 1]


def to_codes(levels: MutableSequence[int]) -> None:
    """Turn an output channel's levels into its codes, in place.

    Raises:
        ValueError: they are not on the trellis.
    """
    state = 0
    for i, level in enumerate(levels):
        sign = int(level > 0) - int(level < 0)
        code, rest = divmod(level + sign * (state & 1), 2)
        if rest:
            raise ValueError("levels that are not on the trellis")
        levels[i] = code
        state = NEXT_STATE[state][code & 1]
