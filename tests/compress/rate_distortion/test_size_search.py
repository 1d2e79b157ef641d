"""The price of a bit is found for what the file will be, not for what narrow rounding tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.rate_distortion.size_search import Judgement, choose_price
from squeezenet.compress.rate_distortion.trellis_rounding import NARROW, Breadth
from squeezenet.errors import QualityError
from squeezenet.progress import SilentProgress

WIDE = Breadth(paths=8, steps=9)


class Rounding:
    """Stands for a search whose levels are what ``told`` of their divergence, which is also their
    price: times ``more`` where rounded widely, and with a little noise."""

    def __init__(self, told: Callable[[float], float], more: float, noise: float = 0.0) -> None:
        self.told, self.more, self.noise = told, more, noise
        self.wide, self.rng = 0, np.random.default_rng(1)

    def price_of(self, divergence: float) -> float:
        return divergence

    def start(self, price: float, breadth: Breadth) -> Any:
        self.wide += breadth != NARROW
        off = math.exp(self.noise * float(self.rng.normal()))
        return self.told(price) * off * (1 if breadth == NARROW else self.more)

    def compressed(self, found: Any, price: float) -> Any:
        return found


def size_told(divergence: float) -> float:
    return cast(float, 1000 * divergence**-0.15)


def found_size(rounding: Rounding, target: int, breadth: Breadth = WIDE) -> float:
    def judge(size: Any) -> Judgement:
        fits = size <= target
        beyond = math.log(target / size)
        return Judgement(good=fits, coarser=not fits, beyond=beyond, said=f"{size:.0f} bytes")

    settings = RateDistortionSettings(target_bytes=target)
    search = cast(LevelSearch, rounding)
    return cast(float, choose_price(search, settings, judge, breadth, SilentProgress())[1])


@pytest.mark.parametrize("more", [0.95, 0.97, 0.995, 1.0, 1.003, 1.03])
@pytest.mark.parametrize("noise", [0, 0.0003])
@pytest.mark.parametrize("target", [1200, 1567, 2100, 2800])
def test_a_target_is_kept_and_used(more: float, noise: float, target: int) -> None:
    rounding = Rounding(size_told, more, noise)
    size = found_size(rounding, target)
    assert 0.998 * target < size <= target
    assert rounding.wide <= 4


def test_narrow_rounding_can_be_all() -> None:
    rounding = Rounding(size_told, 1.0)
    assert 1.995 < found_size(rounding, 2000, NARROW) / 1000 <= 2
    assert rounding.wide == 0


@pytest.mark.parametrize("more", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("most", [0.1, 0.5, 3.0])
def test_a_drop_is_kept_and_used(more: float, most: float) -> None:
    rounding = Rounding(lambda divergence: 100 * math.sqrt(divergence**1.5 / 50), more)

    def judge(exact: Any) -> Judgement:
        drop = round(exact / 0.2) * 0.2  # of 500 images
        good = drop <= most
        beyond = (drop - most) / 100
        return Judgement(good=good, coarser=good, beyond=beyond, said=f"{drop:.2f} lost")

    settings = RateDistortionSettings(max_drop=most)
    search = cast(LevelSearch, rounding)
    drop = cast(float, choose_price(search, settings, judge, WIDE, SilentProgress())[1])
    assert 0.6 * most - 0.2 < drop <= most + 0.1
    assert rounding.wide <= 5


def test_what_no_price_reaches_is_refused() -> None:
    for breadth in (WIDE, NARROW):
        with pytest.raises(QualityError, match="--target-bytes 900 cannot be reached: 1000 bytes"):
            found_size(Rounding(size_told, 1.0), 900, breadth)
