"""The finalists of a search: compressed for real, and measured as clients run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from squeezenet.arch.serialization import from_plain, to_plain
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.run import compress_model
from squeezenet.errors import InterruptedRunError, SpecError, SqueezeNetError
from squeezenet.explore.search import Search, best_within, front
from squeezenet.explore.trial import TrialJob
from squeezenet.files import make_folder
from squeezenet.model.safetensors_file import load_safetensors
from squeezenet.progress import Progress
from squeezenet.report.study.results import Finalist, TrialRow
from squeezenet.sealed_files import read_sealed_json, write_sealed_json
from squeezenet.train.run_folder import RunFolder

NUM_FINALISTS = 3


def choose_finalists(rows: Sequence[TrialRow], search: Search) -> list[TrialRow]:
    """Return the most accurate trial within the budgets, and its neighbours on the front."""
    best = best_within(rows, search.budgets)
    if best is None:
        return []
    assert best.measures is not None
    accuracy = best.measures.top1
    others = [row for row in front(rows) if row.measures is not None and row.name != best.name]
    others.sort(key=lambda row: abs((row.measures.top1 if row.measures else 0.0) - accuracy))
    return [best, *others[: NUM_FINALISTS - 1]]


def measure_finalist(
    row: TrialRow, search: Search, job: TrialJob, folder: Path, progress: Progress
) -> Finalist | None:
    """Compress the weights of a trial, and measure the file on the images held out from training.

    What an earlier call has measured is read back. None if the trial's run folder is not on this
    machine, or its network cannot be compressed; ``progress`` is told.

    Raises:
        InterruptedRunError: a signal came; the same call goes on.
    """
    run = RunFolder(job.folder / row.name)
    if not run.last.is_file():
        progress.log(f"{row.name}: was trained on another machine, so it is not compressed here")
        return None
    try:
        return _measured(row, search, job, run, folder, progress)
    except InterruptedRunError:
        raise
    except SqueezeNetError as error:
        progress.log(f"{row.name}: is not compressed: {error}")
        return None


def _measured(
    row: TrialRow,
    search: Search,
    job: TrialJob,
    run: RunFolder,
    folder: Path,
    progress: Progress,
) -> Finalist:
    make_folder(folder)
    known = folder / f"{row.name}.json"
    data = read_sealed_json(known)
    if data is not None:
        try:
            return from_plain(Finalist, data, str(known))
        except SpecError:
            pass  # of another version: it is measured again
    file = folder / f"{row.name}.sqz"
    assert row.measures is not None and row.measures.file_bytes is not None
    model = load_safetensors(run.last)  # those that the search has measured
    opened = job.open_data(progress)
    progress.log(f"{row.name}: compressing")
    report = compress_model(
        model,
        CompressionImages(
            retrain=opened.train, labelled=False, measure=opened.val, measure_labelled=True
        ),
        file,
        RateDistortionSettings(divergence=search.divergence),
        job.recipe(opened, model.record.spec.input_size),
        options=job.fit_options(progress),
    )
    measured = report.stages[-1]
    found = Finalist(
        name=row.name,
        estimated_bytes=row.measures.file_bytes,
        file_bytes=report.file_bytes,
        top1=measured.top1 or 0.0,
        float_top1=row.measures.top1,
    )
    write_sealed_json(known, to_plain(found))
    return found
