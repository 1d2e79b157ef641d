"""Curves, confusion matrix, worst mistakes and model card of a model, measured on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezenet.codec.model_kinds import ModelKind
from squeezenet.evaluation.metrics import Evaluation, score
from squeezenet.evaluation.predict import predict
from squeezenet.images.batches import EvalBatches

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
    """
    from squeezenet.report.card import Measured
    from squeezenet.report.write import read_metrics, write_report

    batches = EvalBatches(images, opened.record.preprocessing, workers=workers, bad=bad)
    predicted = predict(opened.network, opened.record, batches, progress=progress)
    metrics: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    if opened.source.argument is ModelKind.RUN_FOLDER:
        from squeezenet.train.run_folder import RunFolder

        folder = RunFolder(opened.source.path.parent)
        metrics, result = read_metrics(folder.metrics), folder.read_result() or {}
    measured = Measured(
        record=opened.record,
        predicted=predicted,
        file_bytes=opened.file_bytes,
        data=about,
        chose_weights=chose_weights,
        result=result,
    )
    return score(predicted), write_report(out, measured, images, metrics, progress=progress)
