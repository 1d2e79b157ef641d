"""The search for networks in a budget: what it proposes, and how it compares them.

Optuna's sampler proposes networks of a ``Space``. Those over a budget are not trained; the others
are, for a short time, and compared by accuracy, bytes of the compressed file and multiply-
accumulates. A cost that has a budget is a constraint, and the sampler looks for accuracy within it;
one that has none is an objective. Accuracy is that of the images held out from training: choosing
among networks by the test images would flatter the chosen one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squeezenet.arch.serialization import to_plain
from squeezenet.errors import SpecError
from squeezenet.explore.budgets import Budgets
from squeezenet.explore.costs import Costs, measure_costs
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.space import Space, TrunkSpace
from squeezenet.explore.study import Direction, RefusedError
from squeezenet.explore.sweeps import Variant
from squeezenet.report.study.results import TrialMeasures, TrialRow

if TYPE_CHECKING:
    import optuna

_OBJECTIVES = ("file_bytes", "macs")
"""Costs that are objectives unless they have a budget."""
BYTES_PER_WEIGHT, BYTES_OF_A_FILE = 0.2, 700
"""What a file takes, before any trial has told: the rest is names, biases and scales."""
_SLACK = 1.1
"""A predicted size may be so many times the budget: it is known to about a tenth."""
_FIRST_AT_RANDOM = 16
"""Trials before the sampler learns from them: Optuna's default is 10, for fewer dimensions."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search looks through and for, as worker processes are told it.

    ``divergence``: what ``compress`` may lose, in nats, at the sizes that are compared.
    """

    space: Space | TrunkSpace
    budgets: Budgets
    num_trials: int
    divergence: float

    @property
    def objectives(self) -> tuple[str, ...]:
        """The costs that the sampler minimises beside maximising accuracy."""
        limits = self.budgets.limits()
        return tuple(name for name in _OBJECTIVES if name not in limits)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Of accuracy, and of each objective."""
        minimize: Direction = "minimize"
        return ("maximize", *(minimize for _ in self.objectives))


class NetworkProposer:
    """Proposes the networks of a search; implements ``study.Proposer``.

    ``rows`` are the trials so far, which tell how many bytes a weight takes.
    """

    def __init__(self, search: Search, rows: Callable[[], Sequence[TrialRow]]) -> None:
        self.num_trials = search.num_trials
        self._search, self._rows = search, rows

    def propose(self, trial: optuna.Trial, number: int) -> TrialPlan:
        """Return a network within the budgets; see ``study.Proposer``."""
        search, name = self._search, f"trial-{number:04d}"
        try:
            spec = search.space.choose(trial, name)
            costs = measure_costs(spec, latency=search.budgets.latency_ms is not None)
        except SpecError:
            raise RefusedError({"network": 1.0}) from None
        expected = predicted_bytes(costs, self._rows()) / _SLACK
        excess = search.budgets.excess(costs, expected)
        if any(value > 0 for value in excess.values()):
            raise RefusedError(excess)
        return TrialPlan(variant=Variant(name=name, label=name, x=None, spec=spec), seed=0)

    def values(self, measures: TrialMeasures) -> tuple[float, ...]:
        """Return accuracy and the objectives; see ``study.Proposer``."""
        return (measures.top1, *(getattr(measures, each) for each in self._search.objectives))

    def constraints(self, measures: TrialMeasures) -> dict[str, float]:
        """Return by how much of itself each budget is exceeded; see ``study.Proposer``."""
        return _excess(measures, self._search.budgets)


def sampler(seed: int | None = None) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler for several objectives; what runs elsewhere counts as bad."""
    import optuna

    from squeezenet.explore.storage import quiet_optuna

    with quiet_optuna():
        return optuna.samplers.TPESampler(
            n_startup_trials=_FIRST_AT_RANDOM, multivariate=True, constant_liar=True, seed=seed
        )


def predicted_bytes(costs: Costs, rows: Sequence[TrialRow]) -> float:
    """Return about how many bytes a network's file will have, by those of the trials so far."""
    known = [
        (row.measures.file_bytes - BYTES_OF_A_FILE) / row.measures.parameters
        for row in rows
        if row.measures is not None
        and row.measures.file_bytes is not None
        and not row.measures.stopped  # its size is a prediction itself
    ]
    rate = statistics.median(known) if known else BYTES_PER_WEIGHT
    return BYTES_OF_A_FILE + rate * costs.parameters


def front(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the trials that no other beats or equals in accuracy, bytes and MACs alike."""
    done = [row for row in rows if row.state == "done" and row.measures is not None]
    return [row for row in done if not any(_dominates(other, row) for other in done)]


def best_within(rows: Sequence[TrialRow], budgets: Budgets) -> TrialRow | None:
    """Return the most accurate finished trial within the budgets, None if there is none."""
    inside = []
    for row in rows:
        m = row.measures
        if row.state != "done" or m is None or m.file_bytes is None or m.arena_bytes is None:
            continue
        if all(value <= 0 for value in _excess(m, budgets).values()):
            inside.append((m.top1, -m.file_bytes, row))
    return max(inside, key=lambda each: each[:2])[2] if inside else None


def _excess(measures: TrialMeasures, budgets: Budgets) -> dict[str, float]:
    assert measures.file_bytes is not None and measures.arena_bytes is not None
    costs = Costs(
        parameters=measures.parameters,
        weight_bytes=measures.weight_bytes,
        macs=measures.macs,
        arena_bytes=measures.arena_bytes,
        latency_ms=measures.latency_ms,
    )
    return budgets.excess(costs, measures.file_bytes)


def _dominates(a: TrialRow, b: TrialRow) -> bool:
    x, y = _objectives(a), _objectives(b)
    return x != y and all(p <= q for p, q in zip(x, y, strict=True))


def _objectives(row: TrialRow) -> tuple[float, float, float]:
    """Accuracy, bytes and MACs, each the better the smaller."""
    assert row.measures is not None and row.measures.file_bytes is not None
    return (-row.measures.top1, row.measures.file_bytes, row.measures.macs)


def search_settings(search: Search) -> dict[str, object]:
    """Return what two processes of one search must have in common, but for its length."""
    plain = to_plain(search)
    return {name: value for name, value in plain.items() if name != "num_trials"}
