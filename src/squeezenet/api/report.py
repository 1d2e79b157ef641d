"""Curves, confusion matrix, worst mistakes and model card of a model, measured on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezenet.codec.model_kinds import ModelKind
from squeezenet.evaluation.metrics import Evaluation, score
from squeezenet.evaluation.predict import predict
from squeezenet.images.batches import EvalBatches
from squeezenet.output_folder import OutputFolder

if TYPE_CHECKING:
    from squeezenet.api.open_model import OpenModel
    from squeezenet.images.bad import BadImages
    from squeezenet.images.sets import ImageSet
    from squeezenet.progress import Progress


def draw_report(
    opened: OpenModel,
    images: ImageSet,
    out: Path,
    about: str,
    *,
    chose_weights: bool = False,
    workers: int | None = None,
    bad: BadImages | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, list[Path]]:
    """Measure a model on ``images`` and write the report into the folder ``out``.

    The report of a run folder has the story of its training too. ``about`` says in words what the
    images are. ``chose_weights``: the run picked its best epoch by these images. Returns what was
    measured and the files written, the card first.

    Raises:
        UsageError: ``out`` has files that squeezenet did not write.
        CheckpointError: another process writes in ``out``, or it cannot be written.
    """
    from squeezenet.report.card import Measured
    from squeezenet.report.write import REPORT_FILES, read_metrics, write_report

    is_ours = _is_own_report(opened, out)
    OutputFolder(out, is_ours=is_ours).check(REPORT_FILES)  # before the predictions, not after
    batches = EvalBatches(images, opened.record.preprocessing, workers=workers, bad=bad)
    predicted = predict(opened.network, opened.record, batches, progress=progress)
    metrics: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    if opened.source.argument is ModelKind.RUN_FOLDER:
        from squeezenet.train.run_folder import RunFolder

        run = RunFolder(opened.source.path.parent)
        metrics, result = read_metrics(run.metrics, progress), run.read_result() or {}
    measured = Measured(
        record=opened.record,
        predicted=predicted,
        file_bytes=opened.file_bytes,
        data=about,
        chose_weights=chose_weights,
        result=result,
    )
    files = write_report(out, measured, images, metrics, is_ours=is_ours, progress=progress)
    return score(predicted), files


def _is_own_report(opened: OpenModel, out: Path) -> bool:
    """Whether ``out`` is the folder for the report inside the run that was opened."""
    if opened.source.argument is not ModelKind.RUN_FOLDER:
        return False
    from squeezenet.train.run_folder import REPORT

    return out.absolute() == (opened.source.path.parent / REPORT).absolute()
