"""The price of a bit at which a file is as small, or as good, as it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from squeezenet.codec.types import CompressedLayer
from squeezenet.compress.rate_distortion.level_search import LevelSearch, NetworkLevels
from squeezenet.compress.rate_distortion.settings import (
    LEAST_DIVERGENCE,
    MOST_DIVERGENCE,
    RateDistortionSettings,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROW, Breadth
from squeezenet.errors import QualityError
from squeezenet.progress import Progress

_FIRST = 0.05
"""The divergence that is tried first."""
_SEARCHES, _ROUGH_SEARCHES = 9, 6
"""Along one way: where that is all, and where it only tells the others where to begin."""
_WIDE_SEARCHES = 3
"""As wide as the file is rounded; more only where none of them is good."""
_MARGIN = 0.0005
"""Share of the bytes, or of the images, by which to stay on the good side."""
_FLATTEST = 0.01
_FARTHEST = 0.25
"""Least slope against the divergence's logarithm, and the most that this moves by at once."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether layers may be taken, whether coarser ones are to be tried, and what was found.
    ``beyond`` tells by how much the divergence is too large, as a share of the bytes or of the
    images; it is negative where the divergence is too small."""

    good: bool
    coarser: bool
    beyond: float
    said: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Try:
    divergence: float
    price: float
    found: NetworkLevels
    judged: Judgement


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

    def attempt(divergence: float, each: Breadth) -> _Try:
        price = search.price_of(divergence)
        found = search.start(price, each)
        judged = judge(search.compressed(found, price))
        progress.log(f"search: {judged.said}")
        return _Try(divergence=divergence, price=price, found=found, judged=judged)

    narrow = breadth == NARROW
    tries = _halved(lambda d: attempt(d, NARROW), _SEARCHES if narrow else _ROUGH_SEARCHES)
    good = [each for each in tries if each.judged.good]
    if good and not narrow:
        tries = _corrected(lambda d: attempt(d, breadth), tries, settings)
        good = [each for each in tries if each.judged.good]
    if not good:
        wanted = f"--target-bytes {settings.target_bytes}"
        if settings.target_bytes is None:
            wanted = f"--max-drop {settings.max_drop}"
        nearest = tries[-1].judged.said
        raise QualityError(f"{wanted} cannot be reached: {nearest} is the nearest")
    best = _best(good, settings)
    return best.price, best.found


def _best(good: list[_Try], settings: RateDistortionSettings) -> _Try:
    """The one next to what is no longer good: a size is too large where the divergence is too
    small, and a drop where it is too large."""
    nearest = min if settings.target_bytes is not None else max
    return nearest(good, key=lambda each: each.divergence)


def _halved(attempt: Callable[[float], _Try], searches: int) -> list[_Try]:
    """Tries between a divergence of which too little fits and one of which too much is lost: in
    the middle of their logarithms."""
    low, high = LEAST_DIVERGENCE, MOST_DIVERGENCE
    divergence, tries = _FIRST, []
    for _ in range(searches):
        tries.append(attempt(divergence))
        if tries[-1].judged.coarser:
            low = divergence
        else:
            high = divergence
        known = (low > LEAST_DIVERGENCE, high < MOST_DIVERGENCE)
        if known == (True, True):
            divergence = math.sqrt(low * high)
        else:
            divergence = min(high, divergence * 4) if known[0] else max(low, divergence / 4)
    return tries


def _corrected(
    attempt: Callable[[float], _Try], rough: list[_Try], settings: RateDistortionSettings
) -> list[_Try]:
    """Tries from the best of the rough ones on, which are all off by nearly the same share: each
    goes on from the one before by what that was off, along the slope of the rough ones."""
    last = _best([each for each in rough if each.judged.good], settings)
    bad = [each for each in rough if not each.judged.good]
    slope = _FLATTEST
    if bad:
        other = min(bad, key=lambda each: abs(math.log(each.divergence / last.divergence)))
        rise = other.judged.beyond - last.judged.beyond
        slope = max(slope, rise / math.log(other.divergence / last.divergence))
    margin = _MARGIN if settings.target_bytes is not None else -_MARGIN
    tries: list[_Try] = []
    while len(tries) < _WIDE_SEARCHES or not any(each.judged.good for each in tries):
        move = (margin - last.judged.beyond) / slope
        move = math.copysign(min(abs(move), _FARTHEST), move)
        divergence = last.divergence * math.exp(move)
        divergence = min(max(divergence, LEAST_DIVERGENCE), MOST_DIVERGENCE)
        if tries and divergence == last.divergence:
            break
        last = attempt(divergence)
        tries.append(last)
        if last.judged.good and abs(last.judged.beyond) <= 2 * abs(margin):
            break
        if len(tries) >= _WIDE_SEARCHES:
            margin *= 2
    return tries
