"""Gives up trainings of a search that others are ahead of, at the same epoch and at no more cost.

The paper's sweeps never stop early: what learns slowly would be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from squeezenet.explore.costs import Costs
from squeezenet.report.study.results import TrialRow

MARGIN = 4.0
"""Points of validation top-1 by which another must be ahead: twice what two seeds of one network
differ by at the same epoch of a short training (docs/experiments/design_space.md)."""
FIRST_EPOCH = 3


def is_hopeless(epoch: int, top1: float, costs: Costs, others: Sequence[TrialRow]) -> bool:
    """Return whether a finished trial that costs no more was ahead by ``MARGIN`` at this epoch.

    ``epoch`` counts from 1; before ``FIRST_EPOCH`` nothing is hopeless.
    """
    if epoch < FIRST_EPOCH:
        return False
    finished = (row.measures for row in others)
    return any(
        m is not None
        and not m.stopped
        and len(m.curve) >= epoch
        and m.macs <= costs.macs
        and m.parameters <= costs.parameters
        and m.curve[epoch - 1] >= top1 + MARGIN
        for m in finished
    )


def watcher(
    costs: Costs, rows: Callable[[], Sequence[TrialRow]], num_epochs: int
) -> Callable[[int, float], bool]:
    """Return a function of epoch and top-1 that says whether to give up; never in the last one."""

    def hopeless(epoch: int, top1: float) -> bool:
        return epoch < num_epochs and is_hopeless(epoch, top1, costs, rows())

    return hopeless
