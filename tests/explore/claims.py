"""A process that takes trials of a study and only notes that it did, for ``test_study``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.presence import present
from squeezenet.explore.study import Study
from squeezenet.report.study.results import TrialMeasures

MEASURES = TrialMeasures(
    top1=50.0, top5=90.0, images=10, parameters=100, macs=1000, weight_bytes=400, epochs=1.0,
    seconds=1.0,
)  # fmt: skip


def main(url: str, name: str, folder: Path, log: Path, seconds: float) -> None:
    def run(plan: TrialPlan) -> TrialMeasures:
        time.sleep(seconds)
        with log.open("a") as file:
            file.write(plan.name + "\n")
        return MEASURES

    with present(folder) as worker, Study.load(url, name) as study:
        while study.run_next(worker, run):
            pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]))
