"""The price of a bit is found for what the file will be, not for what narrow rounding tells."""

from __future__ import annotations

from typing import Any, cast

import pytest

from squeezenet.compress.effort import RateDistortionSettings
from squeezenet.compress.level_search import LevelSearch
from squeezenet.compress.price_search import Judgement, choose_price
from squeezenet.compress.rounding import NARROW, Breadth
from squeezenet.errors import QualityError
from squeezenet.progress import SilentProgress

WIDE = Breadth(paths=8, steps=9)


class Sizes:
    """Stands for a search whose levels are their own size: of ``more`` where rounded widely."""

    def __init__(self, more: float) -> None:
        self.more, self.wide = more, 0

    def price_of(self, divergence: float) -> float:
        return divergence

    def start(self, price: float, breadth: Breadth) -> Any:
        self.wide += breadth != NARROW
        return 1000 * price**-0.15 * (1 if breadth == NARROW else self.more)

    def compressed(self, found: Any, price: float) -> Any:
        return found


def found_size(sizes: Sizes, target: int, breadth: Breadth = WIDE) -> float:
    def judge(size: Any) -> Judgement:
        return Judgement(good=size <= target, coarser=size > target, said=f"{size:.0f} bytes")

    settings = RateDistortionSettings(target_bytes=target)
    search = cast(LevelSearch, sizes)
    return cast(float, choose_price(search, settings, judge, breadth, SilentProgress())[1])


@pytest.mark.parametrize("more", [0.995, 0.9999, 1.0, 1.0001, 1.003, 1.02])
@pytest.mark.parametrize("target", [1200, 1567, 2100, 2800])
def test_a_target_is_kept_and_used(more: float, target: int) -> None:
    sizes = Sizes(more)
    size = found_size(sizes, target)
    assert (0.99 if 0.999 < more < 1.01 else 0.98) * target < size <= target
    assert sizes.wide <= (4 if more < 1.001 else 40)


def test_narrow_rounding_can_be_all() -> None:
    sizes = Sizes(1.0)
    assert 1.995 < found_size(sizes, 2000, NARROW) / 1000 <= 2
    assert sizes.wide == 0


def test_what_no_price_reaches_is_refused() -> None:
    for breadth in (WIDE, NARROW):
        with pytest.raises(QualityError, match="--target-bytes 900 cannot be reached: 1000 bytes"):
            found_size(Sizes(1.0), 900, breadth)
