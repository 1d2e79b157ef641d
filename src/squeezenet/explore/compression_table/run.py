"""Make every row of the table, and measure it.

A row that was measured is kept in ``rows/`` of the folder, so an interrupted call resumes.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

from squeezenet.arch.serialization import from_plain, to_plain
from squeezenet.data.sources import open_evaluation_data
from squeezenet.errors import SpecError
from squeezenet.evaluation.metrics import compare, score
from squeezenet.evaluation.predict import LabelledLogits, predict
from squeezenet.explore.compression_table.approaches import APPROACHES
from squeezenet.explore.compression_table.networks import TableNetwork, TableNetworks
from squeezenet.explore.compression_table.options import CompressionTableDefinition
from squeezenet.explore.study_folder import StudyFolder
from squeezenet.explore.trial import TrialJob, measures_on_test
from squeezenet.files import make_folder, remove_leftovers
from squeezenet.folder_lock import FolderLock
from squeezenet.images.batches import EvalBatches
from squeezenet.progress import Progress
from squeezenet.report.compression_table.results import Approach, TableRow
from squeezenet.sealed_files import read_sealed_json, write_sealed_json


def run_compression_table(
    definition: CompressionTableDefinition,
    folder: StudyFolder,
    job: TrialJob,
    progress: Progress,
) -> tuple[TableRow, ...]:
    """Return all rows, in the order of ``APPROACHES``.

    Raises:
        StudyError: the folder has another table or study, or is damaged.
        CheckpointError: it is in use, or cannot be written.
        InterruptedRunError: a signal came; the same call resumes.
    """
    make_folder(folder.path)
    with FolderLock(folder.path):
        folder.open(definition.settings)
        table = _Table(definition, folder, job, progress)
        rows = []
        with progress.task("rows", total=len(APPROACHES), unit="row") as task:
            for approach in APPROACHES:
                row = table.row(approach)
                rows.append(row)
                progress.log(f"{row.name}: {row.bytes:,} bytes, top-1 {row.top1:.2f}%")
                task.advance(1)
    return tuple(rows)


class _Table:
    """Makes and measures rows; predictions of the networks that others are compared with stay."""

    def __init__(
        self,
        definition: CompressionTableDefinition,
        folder: StudyFolder,
        job: TrialJob,
        progress: Progress,
    ) -> None:
        self._definition, self._job, self._progress = definition, job, progress
        self._networks = TableNetworks(definition, folder, job, progress)
        self._rows = folder.path / "rows"
        make_folder(self._rows)
        remove_leftovers(self._rows)
        self._predictions_of_base = cache(lambda name: self._predict(self._networks.make(name)))

    def row(self, approach: Approach) -> TableRow:
        """Return a row, as it was measured before or newly."""
        file = self._rows / f"{approach.name}.json"
        known = _read_row(file)
        if known is not None:
            return known
        made = self._networks.make(approach.name)
        if approach.base is None:
            predicted, difference = self._predictions_of_base(approach.name), None
        else:
            predicted = self._predict(made)
            difference = compare(predicted, self._predictions_of_base(approach.base))
        measured = score(predicted)
        row = TableRow(
            **{f.name: getattr(approach, f.name) for f in dataclasses.fields(approach)},
            bytes=made.bytes,
            size_of=made.size_of,
            top1=measured.top1,
            top5=measured.top5,
            images=measured.images,
            difference=difference.top1_difference if difference else None,
            difference_error=difference.top1_standard_error if difference else None,
        )
        write_sealed_json(file, to_plain(row))
        return row

    def _predict(self, made: TableNetwork) -> LabelledLogits:
        job, images = self._job, self._definition.data.val
        if measures_on_test(job.source, job.limits):
            images = open_evaluation_data(job.source, made.record, "test", limits=job.limits)
        batches = EvalBatches(images, made.record.preprocessing, workers=job.workers)
        return predict(made.network, made.record, batches, progress=self._progress)


def _read_row(file: Path) -> TableRow | None:
    data = read_sealed_json(file)
    if data is None:
        return None
    try:
        return from_plain(TableRow, data, str(file))
    except SpecError:
        return None  # of another version: it is measured again
