"""``squeezenet.explore``: a sweep over the family's metaparameters, in a study folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.api.options import require_checkpoint_every, require_workers
from squeezenet.errors import StudyError, UsageError
from squeezenet.extras import require_extra
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY, parse_limits
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
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
    seeds: int = 3,
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
    "input-size". Each of ``values`` is trained with ``seeds`` seeds, all by one recipe, in run
    folders of ``out``. The options of the recipe are those of ``train``. ``arch`` gives stem, pools
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
    require_extra("train", "exploring")
    require_extra("explore", "exploring")
    require_workers(workers)
    require_checkpoint_every(checkpoint_every)
    limits = parse_limits(max_pixels, max_memory)
    if jobs is not None and not 1 <= jobs <= MAX_JOBS:
        raise UsageError(f"--jobs {jobs}, expected 1 to {MAX_JOBS}")
    from squeezenet.explore.definition import SweepOptions, define_sweep
    from squeezenet.explore.run import run_study, this_machine
    from squeezenet.explore.study_folder import StudyFolder
    from squeezenet.explore.trial import TrialJob
    from squeezenet.report.study.write import write_study
    from squeezenet.train.plan import TrainOptions

    progress = progress or SilentProgress()
    folder = StudyFolder(Path(out))
    folder.require_own()
    options = SweepOptions(
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
    definition = define_sweep(str(data), str(out), options, progress, limits)
    job = TrialJob(
        source=str(data),
        training=definition.training,
        folder=folder.trials,
        device=device,
        workers=workers,
        checkpoint_seconds=checkpoint_every,
        limits=limits,
    )
    trials = run_study(
        folder,
        definition.settings,
        definition.plans,
        job,
        this_machine(jobs, device),
        storage=storage,
        join=join,
        progress=progress,
    )
    results = definition.results(folder.name, trials)
    page = write_study(folder.report, results)
    return StudyResult(out=folder.path, results=results, page=page)
