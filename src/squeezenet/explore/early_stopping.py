"""Gives up trainings of a search that others are ahead of, at the same epoch and at no more cost.

The paper's sweeps never stop early: what learns slowly would be left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from squeezenet.explore.costs import Costs
from squeezenet.report.study.results import TrialRow

MARGIN = 4.0
"""Points of validation top-1 by which another must be ahead. In the second half of a training of 8
epochs, seeds of one network differ by 1 to 2 points (one standard deviation), and the order of
networks is nearly that of the end (docs/studies/squeeze_ratio.md)."""
FIRST_SHARE = 0.5
"""Share of the epochs before which nothing is hopeless."""


def is_hopeless(
    epoch: int, num_epochs: int, top1: float, costs: Costs, others: Sequence[TrialRow]
) -> bool:
    """Return whether a finished trial that costs no more was ahead by ``MARGIN`` at this epoch.

    ``epoch`` counts from 1. In the last one nothing would be saved.
    """
    if not FIRST_SHARE * num_epochs <= epoch < num_epochs:
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
