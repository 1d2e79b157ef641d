"""The price of a bit at which a file is as small, or as good, as it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from squeezenet.codec.types import CompressedLayer
from squeezenet.compress.effort import (
    LEAST_DIVERGENCE,
    MOST_DIVERGENCE,
    RateDistortionSettings,
)
from squeezenet.compress.level_search import LevelSearch, NetworkLevels
from squeezenet.compress.rounding import NARROW, Breadth
from squeezenet.errors import QualityError
from squeezenet.progress import Progress

_FIRST = 0.05
"""The divergence that is tried first."""
_SEARCHES, _ROUGH_SEARCHES = 9, 6
_FURTHER = 1.005
"""From one divergence to the next where none of those searches found one that is good."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether layers may be taken, whether coarser ones are to be tried, and what was found."""

    good: bool
    coarser: bool
    said: str


def choose_price(
    search: LevelSearch,
    settings: RateDistortionSettings,
    judge: Callable[[tuple[CompressedLayer, ...]], Judgement],
    breadth: Breadth,
    progress: Progress,
) -> tuple[float, NetworkLevels]:
    """Return the price, and the levels at it.

    Raises:
        QualityError: what the settings ask for cannot be reached.
    """
    if settings.target_bytes is None and settings.max_drop is None:
        price = search.price_of(settings.divergence)
        progress.log(f"round: {search.num_weights:,} weights")
        return price, search.start(price, breadth)

    def tried(divergence: float, each: Breadth) -> tuple[float, NetworkLevels, Judgement]:
        price = search.price_of(divergence)
        found = search.start(price, each)
        judged = judge(search.compressed(found, price))
        progress.log(f"search: {judged.said}")
        return price, found, judged

    # Of the larger divergence more fits and more is lost; between the two, halve the ratio.
    low, high = LEAST_DIVERGENCE, MOST_DIVERGENCE
    divergence, best, reached = _FIRST, None, False
    for i in range(_SEARCHES):
        each = NARROW if i < _ROUGH_SEARCHES else breadth
        price, found, judged = tried(divergence, each)
        reached |= judged.good
        if judged.good and each == breadth:
            best = price, found
        if judged.coarser:
            low = divergence
        else:
            high = divergence
        known = (low > LEAST_DIVERGENCE, high < MOST_DIVERGENCE)
        if known == (True, True):
            divergence = math.sqrt(low * high)
        else:
            divergence = min(high, divergence * 4) if known[0] else max(low, divergence / 4)
    # What was good when rounded narrowly may be a little too large, or too bad, by all ways.
    while best is None and reached and LEAST_DIVERGENCE < divergence < MOST_DIVERGENCE:
        divergence *= _FURTHER if judged.coarser else 1 / _FURTHER
        price, found, judged = tried(divergence, breadth)
        if judged.good:
            best = price, found
    if best is None:
        wanted = f"--target-bytes {settings.target_bytes}"
        if settings.target_bytes is None:
            wanted = f"--max-drop {settings.max_drop}"
        raise QualityError(f"{wanted} cannot be reached: {judged.said} is the nearest")
    return best
