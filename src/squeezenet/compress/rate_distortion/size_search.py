"""Search for the λ at which a file is as small, or as good, as it must be.

The search runs over the predicted KL divergence D, of which λ is a multiple. Bisection with the
narrowest rounding finds the range. Rounding as wide as the file's then corrects it: what narrow
rounding says of the size is off by nearly the same share at every D, so each try moves ln D by what
the try before was off, along the slope of the narrow tries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.settings import (
    MAX_DIVERGENCE,
    MIN_DIVERGENCE,
    RateDistortionSettings,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.compress.report import SearchPoint
from squeezenet.errors import QualityError
from squeezenet.progress import Progress

INITIAL_KL = 0.05
"""Divergence tried first, in nats: within what measured files have (0.006 to 0.2)."""
GROWTH = 4.0
"""Factor of the divergence while only one end of the range is known."""
NUM_BISECTIONS, NUM_ROUGH_BISECTIONS = 9, 6
"""Tries with the narrowest rounding: where no wider one follows, and where one does. Nine leave
sizes 0.1% to 2% under the target, six and the refinements 0.02% to 0.1% (docs/experiments)."""
NUM_REFINEMENTS = 3
"""Tries as wide as the file's rounding. One to three do; more follow only if none is accepted."""
MARGIN = 0.0005
"""Share of the bytes, or of the images, by which to stay on the accepted side."""
MIN_SLOPE = 0.01
"""Smallest slope of the excess by ln D that is believed."""
MAX_STEP = 0.25
"""Largest step of ln D at once."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What was found of some layers.

    ``accepted``: they meet the requirement. ``try_coarser``: coarser ones should be tried next,
    else finer ones. ``excess``: how much larger the divergence is than need be, as a share of the
    bytes or of the images; negative if it is smaller. ``file_bytes``: the size of the file.
    ``description``: for the log.
    """

    accepted: bool
    try_coarser: bool
    excess: float
    file_bytes: int
    description: str


Judge = Callable[[QuantizedNetwork], Judgement]


def judge_size(file_bytes: int, target_bytes: int) -> Judgement:
    """Judge by the size of the file: at most ``target_bytes``, and as many as possible."""
    return Judgement(
        accepted=file_bytes <= target_bytes,
        try_coarser=file_bytes > target_bytes,
        excess=math.log(target_bytes / file_bytes),
        file_bytes=file_bytes,
        description=f"{file_bytes:,} bytes",
    )


def judge_drop(file_bytes: int, drop: float, max_drop: float) -> Judgement:
    """Judge by what is lost, in percent: at most ``max_drop``, and as much as possible."""
    return Judgement(
        accepted=drop <= max_drop,
        try_coarser=drop <= max_drop,
        excess=(drop - max_drop) / 100,
        file_bytes=file_bytes,
        description=f"{file_bytes:,} bytes, {drop:.2f} lost",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Try:
    divergence: float
    network: QuantizedNetwork
    judgement: Judgement


def search_network(
    search: LevelSearch,
    settings: RateDistortionSettings,
    judge: Judge,
    width: SearchWidth,
    progress: Progress,
    tried: list[SearchPoint] | None = None,
) -> QuantizedNetwork:
    """Return the network rounded at the λ that the settings ask for, directly or by a target.

    What the search tries is appended to ``tried``.

    Raises:
        QualityError: the target cannot be reached.
    """
    if settings.target_bytes is None and settings.max_drop is None:
        progress.log(f"round: {search.num_weights:,} weights")
        return search.round(search.lambda_for(settings.divergence), width)

    def attempt(divergence: float, each: SearchWidth) -> _Try:
        lambda_ = search.lambda_for(divergence)
        network = search.estimate(lambda_) if each == NARROWEST else search.round(lambda_, each)
        judgement = judge(network)
        progress.log(f"search: {judgement.description}")
        if tried is not None:
            tried.append(
                SearchPoint(
                    divergence=divergence, survivors=each.survivors, bytes=judgement.file_bytes
                )
            )
        return _Try(divergence=divergence, network=network, judgement=judgement)

    is_narrow = width == NARROWEST
    num_tries = NUM_BISECTIONS if is_narrow else NUM_ROUGH_BISECTIONS
    tries = _bisect(lambda d: attempt(d, NARROWEST), num_tries)
    accepted = [each for each in tries if each.judgement.accepted]
    if accepted and not is_narrow:
        tries = _refine(lambda d: attempt(d, width), tries, settings)
        accepted = [each for each in tries if each.judgement.accepted]
    if not accepted:
        option = f"--target-bytes {settings.target_bytes}"
        if settings.target_bytes is None:
            option = f"--max-drop {settings.max_drop}"
        nearest = tries[-1].judgement.description
        raise QualityError(f"{option} cannot be reached; the nearest found is {nearest}")
    return _best(accepted, settings).network


def _best(accepted: list[_Try], settings: RateDistortionSettings) -> _Try:
    """The try nearest to the limit: a file is too large where the divergence is too small, and
    loses too much where it is too large."""
    nearest = min if settings.target_bytes is not None else max
    return nearest(accepted, key=lambda each: each.divergence)


def _bisect(attempt: Callable[[float], _Try], num_tries: int) -> list[_Try]:
    """Bisect ln D between a divergence that is too small and one that is too large."""
    low, high = MIN_DIVERGENCE, MAX_DIVERGENCE
    divergence, tries = INITIAL_KL, []
    for _ in range(num_tries):
        tries.append(attempt(divergence))
        if tries[-1].judgement.try_coarser:
            low = divergence
        else:
            high = divergence
        known = (low > MIN_DIVERGENCE, high < MAX_DIVERGENCE)
        if known == (True, True):
            divergence = math.sqrt(low * high)
        elif known[0]:
            divergence = min(high, divergence * GROWTH)
        else:
            divergence = max(low, divergence / GROWTH)
    return tries


def _refine(
    attempt: Callable[[float], _Try], rough: list[_Try], settings: RateDistortionSettings
) -> list[_Try]:
    """Try from the best of the rough tries on, each time corrected by what the try before was off.

    The slope of the excess by ln D is that between the best accepted and the nearest refused rough
    try.
    """
    last = _best([each for each in rough if each.judgement.accepted], settings)
    refused = [each for each in rough if not each.judgement.accepted]
    slope = MIN_SLOPE
    if refused:
        other = min(refused, key=lambda each: abs(math.log(each.divergence / last.divergence)))
        rise = other.judgement.excess - last.judgement.excess
        slope = max(slope, rise / math.log(other.divergence / last.divergence))
    # The excess to aim at: a file a little under its size, or a little under its drop.
    margin = MARGIN if settings.target_bytes is not None else -MARGIN
    tries: list[_Try] = []
    while len(tries) < NUM_REFINEMENTS or not any(each.judgement.accepted for each in tries):
        step = (margin - last.judgement.excess) / slope
        step = math.copysign(min(abs(step), MAX_STEP), step)
        divergence = last.divergence * math.exp(step)
        divergence = min(max(divergence, MIN_DIVERGENCE), MAX_DIVERGENCE)
        if tries and divergence == last.divergence:
            break
        last = attempt(divergence)
        tries.append(last)
        if last.judgement.accepted and abs(last.judgement.excess) <= 2 * abs(margin):
            break
        if len(tries) >= NUM_REFINEMENTS:
            margin *= 2
    return tries
