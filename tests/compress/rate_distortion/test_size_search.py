"""The λ of a target: found for what the file will be, not for what narrow rounding says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.rate_distortion.size_search import (
    INITIAL_KL,
    MAX_STEP,
    NUM_BISECTIONS,
    NUM_REFINEMENTS,
    NUM_ROUGH_BISECTIONS,
    Judgement,
    judge_drop,
    judge_size,
    search_network,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.errors import QualityError
from squeezenet.progress import SilentProgress

WIDE = SearchWidth(survivors=8, scales=9)


class Rounding:
    """A fake search. A network is the number ``measure`` of its divergence, which is also its λ.

    It is ``more`` times that where rounded widely, with a little noise."""

    num_weights = 1000

    def __init__(self, measure: Callable[[float], float], more: float, noise: float = 0.0) -> None:
        self.measure, self.more, self.noise = measure, more, noise
        self.tried: list[tuple[float, SearchWidth]] = []
        self.rng = np.random.default_rng(1)

    @property
    def wide(self) -> list[float]:
        return [lambda_ for lambda_, width in self.tried if width != NARROWEST]

    def lambda_for(self, divergence: float) -> float:
        return divergence

    def estimate(self, lambda_: float) -> Any:
        return self.round(lambda_, NARROWEST)

    def round(self, lambda_: float, width: SearchWidth) -> Any:
        self.tried.append((lambda_, width))
        off = math.exp(self.noise * float(self.rng.normal()))
        return self.measure(lambda_) * off * (1 if width == NARROWEST else self.more)


def size_at(divergence: float) -> float:
    return cast(float, 1000 * divergence**-0.15)


def found_size(rounding: Rounding, target: int, width: SearchWidth = WIDE) -> float:
    settings = RateDistortionSettings(target_bytes=target, max_drop=1e-9)  # bytes go first
    found = search_network(
        cast(LevelSearch, rounding), settings,
        lambda size: judge_size(cast(int, size), target), width, SilentProgress(),
    )  # fmt: skip
    return cast(float, found)


def test_judgements() -> None:
    fits, too_large = judge_size(1000, 1000), judge_size(1001, 1000)
    assert fits.accepted and not fits.try_coarser and fits.excess == 0
    assert not too_large.accepted and too_large.try_coarser
    assert too_large.excess == pytest.approx(-0.001, rel=1e-2)
    assert judge_size(12345, 1).description == "12,345 bytes"
    kept, lost = judge_drop(9999, 1.0, 1.0), judge_drop(9999, 1.5, 1.0)
    assert kept.accepted and kept.try_coarser and kept.excess == 0
    assert not lost.accepted and not lost.try_coarser and lost.excess == pytest.approx(0.005)
    assert lost.description == "9,999 bytes, 1.50 lost"


def test_without_a_target_nothing_is_searched_for() -> None:
    rounding = Rounding(size_at, 1.0)
    settings = RateDistortionSettings(divergence=0.03)
    found = search_network(
        cast(LevelSearch, rounding), settings, lambda size: pytest.fail("judged"), WIDE,
        SilentProgress(),
    )  # fmt: skip
    assert found == size_at(0.03)  # type: ignore[comparison-overlap]
    assert rounding.tried == [(0.03, WIDE)]


@pytest.mark.parametrize("more", [0.95, 0.97, 0.995, 1.0, 1.003, 1.03])
@pytest.mark.parametrize("noise", [0, 0.0003])
@pytest.mark.parametrize("target", [1200, 1567, 2100, 2800])
def test_a_target_is_kept_and_used(more: float, noise: float, target: int) -> None:
    rounding = Rounding(size_at, more, noise)
    size = found_size(rounding, target)
    assert 0.998 * target < size <= target
    assert len(rounding.wide) <= 4
    assert len(rounding.tried) - len(rounding.wide) == NUM_ROUGH_BISECTIONS


def test_the_search_ends_as_soon_as_it_is_near() -> None:
    rounding = Rounding(size_at, 1.0)
    size = found_size(rounding, 2000)
    # 0.05% under the target is aimed at, and 0.1% is near enough.
    assert 0.999 < size / 2000 < 1
    assert len(rounding.wide) <= 2


def test_narrow_rounding_can_be_all() -> None:
    rounding = Rounding(size_at, 1.0)
    assert 1.995 < found_size(rounding, 2000, NARROWEST) / 1000 <= 2
    assert not rounding.wide and len(rounding.tried) == NUM_BISECTIONS


def test_bisection_by_hand() -> None:
    """From 0.05 in factors of 4 until both ends are known, then in the middle of logarithms."""
    rounding = Rounding(size_at, 1.0)
    found_size(rounding, round(size_at(0.5)), NARROWEST)
    divergences = [lambda_ for lambda_, _ in rounding.tried]
    np.testing.assert_allclose(divergences[:4], [INITIAL_KL, 0.2, 0.8, math.sqrt(0.2 * 0.8)])
    rounding = Rounding(size_at, 1.0)
    found_size(rounding, round(size_at(0.002)), NARROWEST)
    divergences = [lambda_ for lambda_, _ in rounding.tried]
    wanted = [INITIAL_KL, 0.0125, 0.003125, 0.00078125, math.sqrt(0.003125 * 0.00078125)]
    np.testing.assert_allclose(divergences[:5], wanted)
    # The ends of the range are tried, and nothing beyond.
    for target in (1001, 3900):
        rounding = Rounding(size_at, 1.0)
        found_size(rounding, target, NARROWEST)
        divergences = [lambda_ for lambda_, _ in rounding.tried]
        assert min(divergences) >= 1e-4 and max(divergences) <= 1
    assert max(divergences) == INITIAL_KL and min(divergences) == 1e-4


def test_refinement_by_hand() -> None:
    """The slope of the rough tries, 0.15 here, says how far to go."""
    rounding = Rounding(size_at, 1.02)
    found_size(rounding, 2000)
    first, second = rounding.wide[:2]
    narrow = [lambda_ for lambda_, width in rounding.tried if width == NARROWEST]
    best = min(d for d in narrow if size_at(d) <= 2000)
    excess = math.log(2000 / size_at(best))
    assert math.log(first / best) == pytest.approx((0.0005 - excess) / 0.15, rel=1e-6)
    excess = math.log(2000 / (1.02 * size_at(first)))
    assert math.log(second / first) == pytest.approx((0.0005 - excess) / 0.15, rel=1e-6)
    # Far steps are cut.
    rounding = Rounding(size_at, 1.2)
    found_size(rounding, 2000)
    steps = np.diff(np.log(rounding.wide))
    assert steps.max() == pytest.approx(MAX_STEP)
    assert len(rounding.wide) > NUM_REFINEMENTS


def test_refinement_ends_after_its_tries_if_one_is_accepted() -> None:
    rounding = Rounding(size_at, 1.0)

    def judge(size: Any) -> Judgement:
        judgement = judge_size(size, 2000)
        if rounding.wide:  # far under the target, whatever is tried
            judgement = dataclasses.replace(judgement, accepted=True, excess=-0.01)
        return judgement

    settings = RateDistortionSettings(target_bytes=2000)
    search_network(cast(LevelSearch, rounding), settings, judge, WIDE, SilentProgress())
    assert len(rounding.wide) == NUM_REFINEMENTS


def test_refinement_goes_on_until_one_is_accepted() -> None:
    """Sizes that refuse to shrink are aimed at with twice the margin each time."""
    rounding = Rounding(size_at, 1.0)
    target, refused = 2000, 5

    def judge(size: Any) -> Any:
        judgement = judge_size(size, target)
        if 0 < len(rounding.wide) <= refused:
            judgement = judge_size(math.ceil(target * 1.0001), target)
        return judgement

    settings = RateDistortionSettings(target_bytes=target)
    search_network(cast(LevelSearch, rounding), settings, judge, WIDE, SilentProgress())
    assert len(rounding.wide) == refused + 1
    steps = np.diff(np.log(rounding.wide))
    # Three of one margin, then twice, four times and eight times it.
    excess = math.log(target / math.ceil(target * 1.0001))
    wanted = [(0.0005 * factor - excess) / 0.15 for factor in (1, 1, 2, 4, 8)]
    np.testing.assert_allclose(steps, wanted, rtol=1e-2)


@pytest.mark.parametrize("more", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("max_drop", [0.1, 0.5, 3.0])
def test_a_drop_is_kept_and_used(more: float, max_drop: float) -> None:
    rounding = Rounding(lambda divergence: 100 * math.sqrt(divergence**1.5 / 50), more)

    def judge(exact: Any) -> Any:
        return judge_drop(1000, round(exact / 0.2) * 0.2, max_drop)  # of 500 images

    settings = RateDistortionSettings(max_drop=max_drop)
    search = cast(LevelSearch, rounding)
    drop = cast(float, search_network(search, settings, judge, WIDE, SilentProgress()))
    assert 0.6 * max_drop - 0.2 < drop <= max_drop + 0.1
    assert len(rounding.wide) <= 5


def test_of_accepted_networks_the_nearest_to_the_limit_is_taken() -> None:
    rounding = Rounding(size_at, 1.0, noise=0.0)
    size = found_size(rounding, 2000, NARROWEST)
    assert size == max(s for s in (size_at(d) for d, _ in rounding.tried) if s <= 2000)
    drops = Rounding(lambda divergence: 10 * divergence, 1.0)
    settings = RateDistortionSettings(max_drop=2.0)
    drop = search_network(
        cast(LevelSearch, drops), settings, lambda d: judge_drop(1, cast(float, d), 2.0),
        NARROWEST, SilentProgress(),
    )  # fmt: skip
    assert drop == max(10 * d for d, _ in drops.tried if 10 * d <= 2.0)  # type: ignore[comparison-overlap]


def test_a_target_out_of_reach_is_refused() -> None:
    for width in (WIDE, NARROWEST):
        with pytest.raises(QualityError, match="--target-bytes 900 cannot be reached; .* 1,000"):
            found_size(Rounding(size_at, 1.0), 900, width)
    settings = RateDistortionSettings(max_drop=-1.0)
    with pytest.raises(QualityError, match=r"--max-drop -1\.0 cannot be reached; .* 0\.00 lost"):
        search_network(
            cast(LevelSearch, Rounding(size_at, 1.0)), settings,
            lambda size: judge_drop(1, 0.0, -1.0), WIDE, SilentProgress(),
        )  # fmt: skip
