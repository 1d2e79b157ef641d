"""A whole study: from data and a sweep to a study folder with its report.

The process that starts a study queues its trials and owns its folder; others join. Each runs its
own workers. The owner ends when all trials are over, wherever they ran; who joins, when nothing is
left for it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from squeezenet.arch.network_file import network_json
from squeezenet.errors import InterruptedRunError, StudyError
from squeezenet.explore.definition import StudyDefinition, given, option_words
from squeezenet.explore.finalists import choose_finalists, measure_finalist
from squeezenet.explore.pool import WorkerPool
from squeezenet.explore.presence import is_gone, remove_gone
from squeezenet.explore.search import Search, front
from squeezenet.explore.study import Counts, Direction, Study
from squeezenet.explore.study_folder import StudyFolder
from squeezenet.explore.trial import TrialJob
from squeezenet.explore.worker import WorkerTask
from squeezenet.files import make_folder, write_bytes_atomically
from squeezenet.folder_lock import FolderLock
from squeezenet.launch import num_cores
from squeezenet.progress import Progress, Task
from squeezenet.report.study.results import SearchResults, TrialRow
from squeezenet.train.stop import StopSignals

_SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How trials run here: ``jobs`` side by side share ``cores``; of ``gpus`` each has one."""

    jobs: int
    cores: int
    gpus: int


def this_machine(jobs: int | None, device: str) -> Machine:
    """Choose how many trials run side by side: one per GPU, else one per core."""
    import torch

    cores = num_cores()
    gpus = 0
    if device in ("auto", "cuda") and torch.cuda.is_available():
        gpus = torch.cuda.device_count()
    if jobs is None:
        shares_one = device not in ("auto", "cuda", "cpu") or (
            device == "auto" and not gpus and torch.backends.mps.is_available()
        )
        jobs = gpus or (1 if shares_one else cores)
    return Machine(jobs=jobs, cores=cores, gpus=gpus)


def run_study(
    folder: StudyFolder,
    definition: StudyDefinition,
    job: TrialJob,
    machine: Machine,
    *,
    storage: str | None,
    join: bool,
    progress: Progress,
) -> list[TrialRow]:
    """Run the trials that are not done yet, and return all trials.

    Raises:
        StudyError: the folder or the database has a study with other settings, or cannot be used.
        UsageError, CheckpointError: the folder holds something else, or is in use.
        InterruptedRunError: a signal came; trials have checkpoints, and are in the queue again.
    """
    url = storage or folder.database
    folder.require_own()
    search = definition.search
    with _opened(folder, url, definition, join=join) as study:
        counts = study.counts()
        total = counts.done + counts.failed + counts.running + counts.waiting
        if search is not None:
            total = max(total, search.num_trials)
        if not _is_over(study, counts, search):
            jobs = min(machine.jobs, max(1, total - counts.done))
            task = WorkerTask(
                url=url,
                study=folder.name,
                folder=folder.path,
                job=job,
                threads=max(1, machine.cores // jobs),
                search=search,
            )
            _work(study, folder, task, jobs, machine.gpus, total, progress, owns=not join)
        if search is not None and study.exhausted is not None:
            progress.log(
                f"the search ends with {study.counts().done} of {search.num_trials} networks: "
                f"{study.exhausted}; larger budgets leave more to choose from"
            )
        return study.rows()


@contextlib.contextmanager
def _opened(
    folder: StudyFolder, url: str, definition: StudyDefinition, *, join: bool
) -> Iterator[Study]:
    """Open the study; the owner holds the folder's lock, and queues what is missing."""
    settings = definition.settings
    if join:
        if url == folder.database:
            folder.require_study()
        with Study.load(url, folder.name, settings) as study:
            if url != folder.database:
                folder.open(settings | {"joined": True})
            yield study
        return
    make_folder(folder.path)
    with FolderLock(folder.path):
        known = folder.open(settings)
        directions: tuple[Direction, ...] = ("maximize",)
        if definition.search is not None:
            directions = definition.search.directions
        # What is in our own folder is ours.
        known = known or url == folder.database
        try:
            created = Study.create(url, folder.name, settings, known=known, directions=directions)
        except StudyError:
            if not known:
                folder.forget()  # or the next call would take another's study for its own
            raise
        with created as study:
            study.recover(partial(is_gone, folder=folder.path))
            remove_gone(folder.path)
            if definition.search is not None:
                study.retry()
            study.enqueue(definition.plans)
            yield study


def _work(
    study: Study,
    folder: StudyFolder,
    task: WorkerTask,
    jobs: int,
    gpus: int,
    total: int,
    progress: Progress,
    *,
    owns: bool,
) -> None:
    counts = study.counts()
    progress.log(
        f"{counts.done} of {total} trials are done; {jobs} run side by side, "
        f"{task.threads} thread{'s' * (task.threads > 1)} each"
    )
    gone = partial(is_gone, folder=folder.path)
    with (
        StopSignals() as stop,
        progress.task("trials", total=total, unit="trial", done=counts.done) as shown,
        WorkerPool(task, jobs, gpus, progress) as pool,
    ):
        done = _Done(counts.done, shown)
        while True:
            pool.show(_SECONDS_BETWEEN_LOOKS)
            if stop.received is not None:
                break
            died = pool.replace_dead()
            study.recover(gone, died=died, owns=owns)
            counts = study.counts()
            if done.update(counts):
                pool.forget_failures()
            if _is_over(study, counts, task.search) or (pool.is_idle and not owns):
                return
    counts = study.counts()
    raise InterruptedRunError(
        f"stopped with {counts.done} of {total} trials done; the others have checkpoints in "
        f"{folder.trials}; give the same command again to go on",
        stop.received,
    )


def search_results(
    folder: StudyFolder,
    definition: StudyDefinition,
    job: TrialJob,
    url: str,
    progress: Progress,
    *,
    owns: bool,
) -> SearchResults:
    """Write the networks of a search's front, and say which is best; its owner compresses some.

    Raises:
        InterruptedRunError: a signal came; the same call goes on.
    """
    search = definition.search
    assert search is not None
    with Study.load(url, folder.name) as study:
        trials, importances = study.rows(), study.importances()
    chosen = choose_finalists(trials, search)
    on_front = front(trials)
    make_folder(folder.networks)
    for row in {row.name: row for row in (*on_front, *chosen)}.values():
        file = folder.networks / f"{row.name}.json"
        write_bytes_atomically(file, network_json(row.spec).encode())
    measured = [
        measure_finalist(row, search, job, folder.finalists, progress)
        for row in (chosen if owns else ())
    ]
    finalists = [each for each in measured if each is not None]
    limit = search.budgets.file_bytes
    fitting = [each.name for each in finalists if limit is None or each.file_bytes <= limit]
    best = next(iter([*fitting, *(row.name for row in chosen)]), None)
    return SearchResults(
        front=tuple(row.name for row in on_front),
        finalists=tuple(finalists),
        best=best,
        train_best="" if best is None else train_command(definition, folder, best),
        importances=importances,
    )


def train_command(definition: StudyDefinition, folder: StudyFolder, name: str) -> str:
    """Return the command that trains a network of a search in full: the recipe's own length."""
    words = [
        "squeezenet", "train", definition.source,
        "--arch", str(folder.networks / f"{name}.json"), "--out", name,
    ]  # fmt: skip
    short = ("epochs", "max_steps", "train_images", "input_size")
    kept = {k: v for k, v in given(definition.training).items() if k not in short}
    return shlex.join([*words, *option_words(kept)])


def _is_over(study: Study, counts: Counts, search: Search | None) -> bool:
    """Whether no trial is left, nor to be proposed."""
    if search is not None and counts.done + counts.failed < search.num_trials:
        return counts.is_over and study.exhausted is not None
    return counts.is_over


class _Done:
    """The number of finished trials, as a task shows it."""

    def __init__(self, done: int, task: Task) -> None:
        self._done, self._task = done, task

    def update(self, counts: Counts) -> bool:
        """Show the number, and return whether it has grown."""
        more = counts.done - self._done
        if more:
            failed = f"{counts.failed} failed" if counts.failed else ""
            self._task.advance(max(0, more), failed)
        self._done = counts.done
        return more > 0
