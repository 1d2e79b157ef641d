"""A worker process: takes trials of a study one after another until none is left.

It ends when its parent does, and is deaf to a terminal's Ctrl-C: the parent asks it to stop by
SIGTERM. A trial that is stopped has a checkpoint and is in the queue again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from squeezenet.errors import FolderInUseError, InterruptedRunError, SqueezeNetError
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.presence import present
from squeezenet.explore.remote_progress import SentProgress
from squeezenet.explore.search import NetworkProposer, Search, sampler
from squeezenet.explore.search_trial import run_search_trial
from squeezenet.explore.study import Study
from squeezenet.explore.trial import TrialJob, run_trial
from squeezenet.images.batches import exit_with_parent
from squeezenet.report.study.results import TrialMeasures

_SECONDS_BETWEEN_LOOKS = 2.0
"""While others have trials that may come back to the queue."""


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What a worker process is started with. ``threads``: torch's threads.

    ``search`` is None in a sweep.
    """

    url: str
    study: str
    folder: Path
    job: TrialJob
    threads: int
    search: Search | None = None


class _Stop:
    """Whether SIGTERM has come; while it trains, the training loop handles it."""

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True


def work(task: WorkerTask, pipe: Connection) -> None:
    """Run trials until none is left; the process's target. Ends it with an exit code."""
    if sys.platform != "win32":
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = _Stop()
    threading.Thread(target=exit_with_parent, daemon=True).start()
    progress = SentProgress(pipe, lambda: stop.received)
    import torch

    torch.set_num_threads(task.threads)
    try:
        chooser = None if task.search is None else sampler()
        with (
            present(task.folder) as worker,
            Study.load(task.url, task.study, sampler=chooser) as study,
        ):
            proposer = None if task.search is None else NetworkProposer(task.search, study.rows)

            def run(plan: TrialPlan) -> TrialMeasures:
                progress.title = plan.name
                try:
                    if task.search is None:
                        return run_trial(plan, task.job, progress)
                    return run_search_trial(plan, task.job, task.search, study.rows, progress)
                finally:
                    progress.title = ""

            while not stop.received:
                try:
                    if study.run_next(worker, run, proposer):
                        continue
                except FolderInUseError:
                    pass
                if study.counts().is_over:
                    break
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    except InterruptedRunError:
        pass
    except SqueezeNetError as error:
        progress.log(str(error))
        sys.exit(error.exit_code)
