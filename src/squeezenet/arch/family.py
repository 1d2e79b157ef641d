"""The metaparameter family of the SqueezeNet paper (arXiv 1602.07360), section 5.1.

Five numbers define a network. For Fire module i (from 0): e_i = base_e + incr_e * floor(i / freq),
e3x3 = pct3x3 * e_i, e1x1 = e_i - e3x3, s1x1 = SR * e_i, each rounded half up and at least 1.
"""

from __future__ import annotations

import dataclasses
import math

from squeezenet.arch.presets import squeezenet1_0
from squeezenet.arch.spec import FireSpec, SqueezeNetSpec
from squeezenet.errors import SpecError


def from_metaparameters(
    *,
    base_e: int = 128,
    incr_e: int = 128,
    freq: int = 2,
    pct3x3: float = 0.5,
    squeeze_ratio: float = 0.125,
    like: SqueezeNetSpec | None = None,
    name: str | None = None,
) -> SqueezeNetSpec:
    """Return the network with these metaparameters; the defaults give v1.0 exactly.

    Stem, pools, head, input and the number of Fire modules are those of ``like`` (default: v1.0).
    The result has no bypass; ``spec.with_bypass`` adds one.

    Raises:
        SpecError: a metaparameter is out of range, or leaves no 1x1 filter.
    """
    if base_e < 2 or incr_e < 0 or freq < 1:
        raise SpecError(
            f"family: base_e {base_e}, incr_e {incr_e}, freq {freq}; "
            "expected base_e >= 2, incr_e >= 0, freq >= 1"
        )
    if not 0.0 <= pct3x3 < 1.0:
        raise SpecError(f"family: pct3x3 is {pct3x3}, expected 0 <= pct3x3 < 1")
    if not 0.0 < squeeze_ratio <= 1.0:
        raise SpecError(f"family: squeeze ratio is {squeeze_ratio}, expected 0 < SR <= 1")
    base = like if like is not None else squeezenet1_0()
    fires = []
    for i in range(len(base.fires)):
        expand = base_e + incr_e * (i // freq)
        e3x3 = max(1, _round_half_up(pct3x3 * expand))
        if e3x3 >= expand:
            raise SpecError(
                f"family: pct3x3 {pct3x3} makes all {expand} expand filters of fire{i + 2} 3x3; "
                "expected at least one 1x1 filter"
            )
        s1x1 = max(1, _round_half_up(squeeze_ratio * expand))
        fires.append(FireSpec(s1x1=s1x1, e1x1=expand - e3x3, e3x3=e3x3))
    return dataclasses.replace(base, fires=tuple(fires), name=name or base.name)


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)
