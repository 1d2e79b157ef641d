"""The spaces that a search looks through: networks of the Fire family, stage by stage, or networks
that begin as a pretrained one does.

A stage is a row of Fire modules at one resolution, and a pool stands between two stages, as in the
presets. Each stage has its own number of modules, width, share of 3x3 filters and squeeze ratio.
Widths are multiples of 8, which the clients' kernels work in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.spec import (
    ConvSpec,
    FireSpec,
    HeadSpec,
    NetworkBypass,
    PoolSpec,
    SqueezeNetSpec,
    with_bypass,
)

_SMALL_INPUT = 64
"""Images of at most so many pixels keep their resolution in the stem."""
_STEP = 8


class Chooser(Protocol):
    """What chooses the value of a dimension: Optuna's trial, or a fixed choice."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None
    ) -> float: ...


@dataclass(frozen=True, kw_only=True)
class StageRange:
    """The choices of a stage: numbers of Fire modules, and expand filters of each.

    A stage of no modules has no pool before it either, and an image that is too small for the pool
    has neither that stage nor those after it. Without the first, for small images, the
    pool of the second follows the stem.
    """

    modules: tuple[int, int]
    expand: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Networks for images of ``input_sizes`` pixels (sides to choose from)."""

    input_sizes: tuple[int, ...]
    input_channels: int
    num_classes: int
    stem: tuple[int, int] = (16, 64)
    stages: tuple[StageRange, ...] = (
        StageRange(modules=(0, 2), expand=(16, 96)),
        StageRange(modules=(1, 4), expand=(32, 192)),
        StageRange(modules=(1, 4), expand=(48, 384)),
        StageRange(modules=(0, 3), expand=(64, 384)),
    )

    def choose(self, chooser: Chooser, name: str) -> SqueezeNetSpec:
        """Return the network of this name that ``chooser`` chooses.

        Raises:
            SpecError: its choices make no network for the input.
        """
        size = _input_size(chooser, self.input_sizes)
        is_small = size <= _SMALL_INPUT
        low, high = self.stem
        stem = ConvSpec(
            out_channels=chooser.suggest_int("stem", low, high, step=_STEP),
            kernel=3,
            stride=1 if is_small else 2,
            padding=1 if is_small else 0,
        )
        fires: list[FireSpec] = []
        places = [] if is_small else ["conv1"]
        most_pools = _pools_that_fit((size + 2 * stem.padding - stem.kernel) // stem.stride + 1)
        for k, stage in enumerate(self.stages, 1):
            if k > 1 and len(places) >= most_pools:
                break  # what comes before the pool is smaller than its window
            # Where images are large, a pool follows the stem already, and the first stage it.
            needs_first = k == 1 and (not is_small or most_pools == 0)
            modules = _stage(chooser, k, stage, at_least=1 if needs_first else 0)
            if k > 1 and modules:
                places.append(f"fire{len(fires) + 1}" if fires else "conv1")
            fires += modules
        forms: dict[str, NetworkBypass] = {"none": "none", "simple": "simple", "complex": "complex"}
        bypass = forms[chooser.suggest_categorical("bypass", list(forms))]
        spec = SqueezeNetSpec(
            name=name,
            stem=stem,
            fires=tuple(fires),
            pools=tuple(PoolSpec(after=place) for place in places),
            head=HeadSpec(dropout=0.0),
            num_classes=self.num_classes,
            input_channels=self.input_channels,
            input_size=(size, size),
            batch_norm=True,
        )
        return with_bypass(spec, bypass)

    def smallest(self) -> SqueezeNetSpec:
        """Return the network with the least of everything."""
        return self.choose(_Smallest(), "smallest")


@dataclass(frozen=True, kw_only=True)
class TrunkSpace:
    """Networks that begin as a pretrained one does, so that they can start from its weights.

    The ``pretrained`` network is cut after a Fire module; new modules may follow, after the pool
    that stands there.
    """

    pretrained: SqueezeNetSpec
    input_sizes: tuple[int, ...]
    num_classes: int
    added: tuple[int, int] = (0, 2)
    expand: tuple[int, int] = (64, 384)

    def choose(self, chooser: Chooser, name: str) -> SqueezeNetSpec:
        """Return the network of this name that ``chooser`` chooses.

        Raises:
            SpecError: its choices make no network for the input.
        """
        size = _input_size(chooser, self.input_sizes)
        trunk = chooser.suggest_int("trunk", 1, len(self.pretrained.fires))
        modules, fire = _modules(chooser, "", self.added, self.expand)
        return self._network(name, trunk, modules, fire, size)

    def smallest(self) -> SqueezeNetSpec:
        """Return the network of the fewest parameters."""
        _, narrow = _modules(_Smallest(), "", self.added, self.expand)
        found = [
            self._network("smallest", 1, modules, narrow, min(self.input_sizes))
            for modules in (0, 1)
        ]
        return min(found, key=lambda spec: count(build_graph(spec)).parameters)

    def _network(
        self, name: str, trunk: int, modules: int, fire: FireSpec, size: int
    ) -> SqueezeNetSpec:
        whole = self.pretrained
        inside = ("conv1", *whole.fire_names[: trunk if modules else trunk - 1])
        return dataclasses.replace(
            whole,
            name=name,
            fires=(*whole.fires[:trunk], *[fire] * modules),
            pools=tuple(pool for pool in whole.pools if pool.after in inside),
            head=dataclasses.replace(whole.head, last_relu=False),
            num_classes=self.num_classes,
            input_size=(size, size),
        )


def _pools_that_fit(side: int) -> int:
    """How many pools in a row have a window that fits into ``side`` pixels and what they leave."""
    pool = PoolSpec(after="conv1")
    number = 0
    while side >= pool.kernel:
        side = math.ceil((side - pool.kernel) / pool.stride) + 1
        number += 1
    return number


def _input_size(chooser: Chooser, sizes: Sequence[int]) -> int:
    if len(sizes) == 1:
        return sizes[0]
    return int(chooser.suggest_categorical("input_size", [str(each) for each in sizes]))


def _stage(chooser: Chooser, k: int, stage: StageRange, *, at_least: int) -> list[FireSpec]:
    fewest, most = stage.modules
    modules, fire = _modules(chooser, str(k), (max(fewest, at_least), most), stage.expand)
    return [fire] * modules


def _modules(
    chooser: Chooser, suffix: str, modules: tuple[int, int], expand: tuple[int, int]
) -> tuple[int, FireSpec]:
    """Choose a number of equal Fire modules, and their dimensions."""
    number = chooser.suggest_int(f"modules{suffix}", *modules)
    filters = chooser.suggest_int(f"expand{suffix}", *expand, step=_STEP)
    share = chooser.suggest_float(
        f"pct3x3_{suffix}" if suffix else "pct3x3", 0.25, 0.875, step=0.125
    )
    ratio = chooser.suggest_float(f"squeeze_ratio{suffix}", 0.125, 0.75, step=0.125)
    e3x3 = min(_multiple(share * filters), filters - _STEP)
    return number, FireSpec(s1x1=_multiple(ratio * filters), e1x1=filters - e3x3, e3x3=e3x3)


def _multiple(value: float) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(_STEP, _STEP * int(value / _STEP + 0.5))


class _Smallest:
    """Chooses the least; of categories, which differ little in cost, the first."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        return low

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        if name == "input_size":
            return min(choices, key=int)
        return choices[0]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None
    ) -> float:
        return low
