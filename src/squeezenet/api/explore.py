"""``squeezenet.explore`` and ``squeezenet.search``: networks compared, in a study folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.api.options import require_checkpoint_every, require_workers
from squeezenet.api.train import start_model
from squeezenet.errors import StudyError, UsageError
from squeezenet.extras import require_extra
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.explore.definition import StudyDefinition
    from squeezenet.images.limits import ImageLimits
    from squeezenet.report.study.results import StudyResults

MAX_JOBS = 256
_FAILURES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A study: its folder, its trials, and the page that shows them."""

    out: Path
    results: StudyResults
    page: Path

    def require_all_done(self) -> None:
        """Refuse a study in which a trial failed.

        Raises:
            StudyError: names the first trials that failed, and why.
        """
        failed = [trial for trial in self.results.trials if trial.state == "failed"]
        if failed:
            shown = "; ".join(f"{t.name}: {t.error}" for t in failed[:_FAILURES_SHOWN])
            more = "; ..." if len(failed) > _FAILURES_SHOWN else ""
            raise StudyError(
                f"{len(failed)} of {len(self.results.trials)} trials failed ({shown}{more}); the "
                "same command tries them again"
            )


def explore(
    sweep: str,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    values: Sequence[str | float] | None = None,
    seeds: int | None = None,
    arch: str = "squeezenet1_0",
    base_e: int | None = None,
    incr_e: int | None = None,
    freq: int | None = None,
    pct3x3: float | None = None,
    squeeze_ratio: float | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    batch_norm: bool | None = None,
    flip: bool | None = None,
    train_images: int | None = None,
    val_fraction: float = 0.1,
    jobs: int | None = None,
    storage: str | None = None,
    join: bool = False,
    device: str = "auto",
    checkpoint_every: float = 60.0,
    workers: int | None = None,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
    max_memory: str = DEFAULT_MAX_MEMORY,
    progress: Progress | None = None,
) -> StudyResult:
    """Train networks that differ in one metaparameter, and compare them; resumes.

    ``sweep`` names the metaparameter: "sr", "pct3x3", "bypass", "base-e", "incr-e", "freq" or
    "input-size"; "table3" is "bypass" with more seeds and the paper's figures. Each of ``values``
    is trained with ``seeds`` seeds (default: 3, for "table3" 5), all by one recipe, in run folders
    of ``out``. The options of the recipe are those of ``train``. ``arch`` gives stem, pools
    and number of Fire modules; the other metaparameters are the paper's unless they are given.
    Accuracy is measured on the data's part ``test``, else on what training holds out.

    ``jobs`` trials run side by side, in processes: a script needs the usual
    ``if __name__ == "__main__"``. By default that is one per GPU, else one per core. Trials are
    kept in an SQLite database in ``out``, or in the one at ``storage``, a URL as SQLAlchemy has it.
    With ``join`` this process takes trials of a study that another one has started there, under
    the name of ``out``. The same call goes on with a study that was stopped, or with more values
    or seeds; trials that failed are tried again.

    Raises:
        MissingExtraError: a package of the extra ``explore`` is not installed.
        UsageError: options that do not fit together, or are out of range.
        StudyError: there is a study with other settings, or its database cannot be used.
        InterruptedRunError: SIGINT or SIGTERM came; every trial has a checkpoint.
        DataError, ImageError, CheckpointError: see ``train``.
    """
    options = StudyOptions(
        out=Path(out), jobs=jobs, storage=storage, join=join, device=device,
        checkpoint_every=checkpoint_every, workers=workers, max_pixels=max_pixels,
        max_memory=max_memory, progress=progress or SilentProgress(),
    )  # fmt: skip
    options.check()
    from squeezenet.explore.sweep_options import SweepOptions, define_sweep
    from squeezenet.train.plan import TrainOptions

    asked = SweepOptions(
        sweep=sweep,
        values=None if values is None else tuple(map(str, values)),
        seeds=seeds,
        arch=arch,
        base_e=base_e,
        incr_e=incr_e,
        freq=freq,
        pct3x3=pct3x3,
        squeeze_ratio=squeeze_ratio,
        training=TrainOptions(
            recipe=recipe,
            epochs=epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            batch_norm=batch_norm,
            flip=flip,
            train_images=train_images,
            val_fraction=val_fraction,
        ),
    )
    definition = define_sweep(str(data), str(out), asked, options.progress, options.limits)
    return options.run(definition)


def search(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    max_file_bytes: int | None = None,
    max_macs: int | None = None,
    max_arena_bytes: int | None = None,
    max_latency_ms: float | None = None,
    trials: int = 50,
    divergence: float | None = None,
    from_: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    input_size: int | None = None,
    flip: bool | None = None,
    train_images: int | None = None,
    val_fraction: float = 0.1,
    jobs: int | None = None,
    storage: str | None = None,
    join: bool = False,
    device: str = "auto",
    checkpoint_every: float = 60.0,
    workers: int | None = None,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
    max_memory: str = DEFAULT_MAX_MEMORY,
    progress: Progress | None = None,
) -> StudyResult:
    """Search the Fire family for the most accurate network within budgets; resumes.

    ``trials`` networks are trained for a short time and compared by accuracy on the images held out
    from training, bytes of the compressed file and multiply-accumulates. Networks over a budget
    are not trained: ``max_file_bytes`` of the compressed file, ``max_macs`` per image,
    ``max_arena_bytes`` of the client's memory, ``max_latency_ms`` per image on this machine. Bytes
    are those at which ``compress`` loses ``divergence`` nats (by default as much as it loses
    itself): estimated for all, measured for the finalists. With ``from_``, a model as in ``train``,
    all networks begin with its first Fire modules, and start from their weights. Other arguments
    are those of ``explore``.

    Raises:
        UsageError: a budget is below what the smallest network needs, or another option is out of
            range.
        MissingExtraError, StudyError, InterruptedRunError, DataError, ImageError, CheckpointError:
            see ``explore``.
    """
    options = StudyOptions(
        out=Path(out), jobs=jobs, storage=storage, join=join, device=device,
        checkpoint_every=checkpoint_every, workers=workers, max_pixels=max_pixels,
        max_memory=max_memory, progress=progress or SilentProgress(),
    )  # fmt: skip
    options.check()
    from squeezenet.explore.search_options import SearchOptions, define_search
    from squeezenet.train.plan import TrainOptions

    asked = SearchOptions(
        max_file_bytes=max_file_bytes,
        max_macs=max_macs,
        max_arena_bytes=max_arena_bytes,
        max_latency_ms=max_latency_ms,
        trials=trials,
        divergence=divergence,
        input_size=input_size,
        training=TrainOptions(
            start=start_model(from_),
            recipe=recipe,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            flip=flip,
            train_images=train_images,
            val_fraction=val_fraction,
        ),
    )
    definition = define_search(str(data), str(out), asked, options.progress, options.limits)
    return options.run(definition)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """How a study runs here, whatever it compares; names are those of ``explore``."""

    out: Path
    jobs: int | None
    storage: str | None
    join: bool
    device: str
    checkpoint_every: float
    workers: int | None
    max_pixels: int
    max_memory: str
    progress: Progress

    @property
    def limits(self) -> ImageLimits:
        """The largest images that are read."""
        return parse_limits(self.max_pixels, self.max_memory)

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            MissingExtraError: a package of the extra ``explore`` is not installed.
            UsageError: an option is out of range, or ``out`` holds something else.
        """
        require_extra("train", "exploring")
        require_extra("explore", "exploring")
        require_workers(self.workers)
        require_checkpoint_every(self.checkpoint_every)
        if self.jobs is not None and not 1 <= self.jobs <= MAX_JOBS:
            raise UsageError(f"--jobs {self.jobs}, expected 1 to {MAX_JOBS}")
        from squeezenet.explore.study_folder import StudyFolder

        StudyFolder(self.out).require_own()

    def run(self, definition: StudyDefinition) -> StudyResult:
        """Run the trials that are not done yet, and write the report.

        Raises:
            StudyError, CheckpointError, InterruptedRunError: see ``explore``.
        """
        from squeezenet.explore.run import run_study, search_results, this_machine
        from squeezenet.explore.study_folder import StudyFolder
        from squeezenet.explore.trial import TrialJob
        from squeezenet.report.study.write import write_study

        folder = StudyFolder(self.out)
        job = TrialJob(
            source=definition.source,
            training=definition.training,
            folder=folder.trials,
            device=self.device,
            workers=self.workers,
            checkpoint_seconds=self.checkpoint_every,
            limits=self.limits,
        )
        machine = this_machine(self.jobs, self.device)
        trials = run_study(
            folder,
            definition,
            job,
            machine,
            storage=self.storage,
            join=self.join,
            progress=self.progress,
        )
        found = None
        if definition.search is not None:
            url = self.storage or folder.database
            found = search_results(folder, definition, job, url, self.progress, owns=not self.join)
        results = definition.results(folder.name, trials, found)
        page = folder.page
        if not self.join or self.storage is not None:  # else it is the owner's to write
            page = write_study(folder.report, results)
        return StudyResult(out=folder.path, results=results, page=page)
