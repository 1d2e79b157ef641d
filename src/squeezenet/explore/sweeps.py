"""Named sweeps over the SqueezeNet family: sections 5 and 6 of the paper (arXiv 1602.07360).

A sweep changes one metaparameter and keeps the others. Its default values are the paper's, where
the paper has that sweep.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from squeezenet.arch.family import from_metaparameters
from squeezenet.arch.graph import build_graph
from squeezenet.arch.presets import adapted
from squeezenet.arch.spec import NetworkBypass, SqueezeNetSpec, with_bypass
from squeezenet.errors import SpecError, UsageError, one_line
from squeezenet.report.study.results import PaperFigure

_MAX_VALUES = 100


@dataclass(frozen=True, kw_only=True)
class Metaparameters:
    """What the networks of a sweep have in common; see ``arch.family``.

    ``arch`` gives stem, pools, head and the number of Fire modules.
    """

    arch: SqueezeNetSpec
    base_e: int = 128
    incr_e: int = 128
    freq: int = 2
    pct3x3: float = 0.5
    squeeze_ratio: float = 0.125

    def network(self, **changes: float) -> SqueezeNetSpec:
        """Return the network, with metaparameters changed.

        Raises:
            SpecError: it is no network of the family.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return from_metaparameters(like=values.pop("arch"), **values | changes)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One network of a study.

    ``name`` is part of file names, ``label`` stands in tables and plots. ``x`` is the value that
    the network has on the sweep's axis, None if that is no number. Whole numbers of filters cannot
    have every share: x may differ a little from the value that was asked for.
    """

    name: str
    label: str
    x: float | None
    spec: SqueezeNetSpec


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A metaparameter to change.

    ``title``: what it is called in sentences; ``axis``: on a plot. ``values``: the default ones.
    ``changes``: the field of ``Metaparameters``, if it is one of them. ``paper``: what the paper
    has for some of the values. ``seeds``: trainings of each network, by default.
    ``build(metaparameters, text)`` makes a network, and raises ValueError for a text that is no
    value. ``measure``: the value that a network has. ``defaults``: of other metaparameters.
    """

    name: str
    title: str
    axis: str
    values: tuple[str, ...]
    build: Callable[[Metaparameters, str], SqueezeNetSpec]
    measure: Callable[[SqueezeNetSpec], float] | None = None
    changes: str | None = None
    paper: Mapping[str, PaperFigure] = field(default_factory=dict)
    seeds: int = 3
    defaults: Mapping[str, float] = field(default_factory=dict)


def share_of_3x3(spec: SqueezeNetSpec) -> float:
    """Return the share of the expand filters that are 3x3, over all Fire modules."""
    return sum(f.e3x3 for f in spec.fires) / sum(f.out_channels for f in spec.fires)


def squeeze_ratio(spec: SqueezeNetSpec) -> float:
    """Return the squeeze filters per expand filter, over all Fire modules."""
    return sum(f.s1x1 for f in spec.fires) / sum(f.out_channels for f in spec.fires)


def _number(key: str, kind: type[int] | type[float]) -> Callable[..., SqueezeNetSpec]:
    def build(base: Metaparameters, text: str) -> SqueezeNetSpec:
        value = kind(text)
        if not math.isfinite(value):
            raise ValueError
        return base.network(**{key: value})

    return build


def _bypass(base: Metaparameters, text: str) -> SqueezeNetSpec:
    forms: dict[str, NetworkBypass] = {"none": "none", "simple": "simple", "complex": "complex"}
    if text not in forms:
        raise ValueError
    return with_bypass(base.network(), forms[text])


def _input_size(base: Metaparameters, text: str) -> SqueezeNetSpec:
    spec = adapted(base.network(), input_size=(int(text), int(text)))
    assert isinstance(spec, SqueezeNetSpec)
    return spec


_TABLE_3 = {
    "none": PaperFigure(top1=57.5, top5=80.3, megabytes=4.8),
    "simple": PaperFigure(top1=60.4, top5=82.5, megabytes=4.8),
    "complex": PaperFigure(top1=58.8, top5=82.0, megabytes=7.7),
}
"""The three forms of bypass (section 6)."""
_BYPASS = Sweep(
    name="bypass",
    title="bypass",
    axis="bypass",
    values=("none", "simple", "complex"),
    build=_bypass,
)

SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep(
            name="sr",
            title="squeeze ratio",
            axis="squeeze ratio (SR)",
            values=("0.125", "0.25", "0.5", "0.75", "1"),
            build=_number("squeeze_ratio", float),
            changes="squeeze_ratio",
            # Section 5.2 and figure 3(a).
            paper={
                "0.125": PaperFigure(top5=80.3, megabytes=4.8),
                "0.75": PaperFigure(top5=86.0, megabytes=19),
            },
            measure=squeeze_ratio,
        ),
        Sweep(
            name="pct3x3",
            title="share of 3x3 filters",
            axis="3x3 filters in the expand layers (pct3x3)",
            values=("0.01", "0.25", "0.5", "0.75", "0.99"),
            build=_number("pct3x3", float),
            changes="pct3x3",
            # Section 5.3 and figure 3(b).
            paper={"0.5": PaperFigure(top5=85.6, megabytes=13)},
            measure=share_of_3x3,
            # Section 5.3 of the paper has this sweep at SR 0.5.
            defaults={"squeeze_ratio": 0.5},
        ),
        _BYPASS,
        dataclasses.replace(
            _BYPASS,
            name="table3",
            title="bypass (table 3 of the paper)",
            paper=_TABLE_3,
            seeds=5,
        ),
        Sweep(
            name="base-e",
            title="expand filters of the first Fire module",
            axis="base_e",
            values=("32", "64", "128", "192"),
            build=_number("base_e", int),
            changes="base_e",
            measure=lambda spec: spec.fires[0].out_channels,
        ),
        Sweep(
            name="incr-e",
            title="expand filters added per step",
            axis="incr_e",
            values=("0", "32", "64", "128", "192"),
            build=_number("incr_e", int),
            changes="incr_e",
        ),
        Sweep(
            name="freq",
            title="Fire modules per step of the widths",
            axis="freq",
            values=("1", "2", "4", "8"),
            build=_number("freq", int),
            changes="freq",
        ),
        Sweep(
            name="input-size",
            title="input size",
            axis="input side, pixels",
            values=("96", "128", "160", "224"),
            build=_input_size,
            measure=lambda spec: spec.input_size[0],
        ),
    )
}


def variants(sweep: Sweep, base: Metaparameters, values: Sequence[str]) -> list[Variant]:
    """Return the networks of a sweep, in the order of ``values``.

    Raises:
        UsageError: a value is no number, given twice, or makes no network.
    """
    if not 1 <= len(values) <= _MAX_VALUES:
        raise UsageError(f"--values: {len(values)} values, expected 1 to {_MAX_VALUES}")
    found: list[Variant] = []
    for text in values:
        try:
            spec = sweep.build(base, text)
            build_graph(spec)
        except (ValueError, OverflowError):
            raise UsageError(
                f"--values: {one_line(text, 40)!r} is no value of {sweep.name}; its "
                f"default values are {','.join(sweep.values)}"
            ) from None
        except SpecError as error:
            raise UsageError(f"--values: {sweep.name} {text}: {error}") from None
        x = sweep.measure(spec) if sweep.measure else _as_number(text)
        name = f"{sweep.name}-{text}"
        if any(_as_number(text) == _as_number(v.label) for v in found if x is not None):
            raise UsageError(f"--values: {text} is there twice")
        if any(name == other.name for other in found):
            raise UsageError(f"--values: {text} is there twice")
        spec = dataclasses.replace(spec, name=f"{spec.name[:60]}_{name[:39]}")
        found.append(Variant(name=name, label=text, x=x, spec=spec))
    return found


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
