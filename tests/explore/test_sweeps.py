"""The networks of a sweep are those of the paper, and what is no network is refused."""

from __future__ import annotations

import pytest

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.presets import squeezenet1_0, squeezenet_tiny
from squeezenet.arch.spec import with_bypass
from squeezenet.errors import UsageError
from squeezenet.explore.plan import TrialPlan, plans
from squeezenet.explore.sweeps import SWEEPS, Metaparameters, variants


def megabytes(sweep: str, value: str) -> float:
    base = Metaparameters(arch=squeezenet1_0(), **SWEEPS[sweep].defaults)
    (variant,) = variants(SWEEPS[sweep], base, [value])
    return count(build_graph(variant.spec)).weight_bytes / 1e6


@pytest.mark.parametrize(
    ("sweep", "value", "paper"),
    [("sr", "0.125", 4.8), ("sr", "0.75", 19.0), ("pct3x3", "0.5", 13.0)],
)
def test_sizes_are_those_of_the_papers_figure_3(sweep: str, value: str, paper: float) -> None:
    assert megabytes(sweep, value) == pytest.approx(paper, rel=0.05)


def test_the_value_is_the_one_that_the_network_has(base: Metaparameters) -> None:
    few, half = variants(SWEEPS["pct3x3"], base, ["0.01", "0.5"])
    assert few.label == "0.01"
    assert few.x == pytest.approx(6 / 144)  # one filter of each module, and there are six
    assert half.x == 0.5


def test_bypass_forms_are_those_of_the_family() -> None:
    base = Metaparameters(arch=squeezenet1_0())
    none, simple, complex_ = variants(SWEEPS["bypass"], base, SWEEPS["bypass"].values)
    assert none.spec.fires == squeezenet1_0().fires
    assert simple.spec.fires == with_bypass(squeezenet1_0(), "simple").fires
    assert complex_.spec.fires == with_bypass(squeezenet1_0(), "complex").fires
    assert [v.x for v in (none, simple, complex_)] == [None] * 3


@pytest.mark.parametrize(
    ("sweep", "values", "message"),
    [
        ("sr", ["0.5", "half"], "'half' is no value of sr"),
        ("sr", ["nan"], "'nan' is no value of sr"),
        ("sr", ["2"], "squeeze ratio is 2.0, expected 0 < SR <= 1"),
        ("pct3x3", ["0.5", "0.5"], "0.5 is there twice"),
        ("bypass", ["some"], "'some' is no value of bypass; its default values are none,simple"),
        ("input-size", ["1"], "input-size 1: "),
        ("freq", [], "0 values, expected 1 to 100"),
    ],
)
def test_values_that_make_no_network(
    base: Metaparameters, sweep: str, values: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match="--values: .*") as refused:
        variants(SWEEPS[sweep], base, values)
    assert message in str(refused.value)


def test_plans_go_through_all_networks_before_the_next_seed(base: Metaparameters) -> None:
    found = plans(variants(SWEEPS["bypass"], base, ["none", "simple"]), 2)
    assert [plan.name for plan in found] == [
        "bypass-none-seed0", "bypass-simple-seed0", "bypass-none-seed1", "bypass-simple-seed1",
    ]  # fmt: skip
    assert [TrialPlan.from_plain(plan.to_plain()) for plan in found] == found


def test_arch_stays_as_it_is_where_no_metaparameter_is_changed() -> None:
    base = Metaparameters(arch=squeezenet_tiny())
    assert base.network().pools == squeezenet_tiny().pools
