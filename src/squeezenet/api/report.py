"""The report of a model measured on images, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezenet.codec.model_kinds import ModelKind, read_compressed
from squeezenet.codec.sizes import LayerSizes, layer_sizes
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
    dataset: str = "",
    history: Path | None = None,
    chose_weights: bool = False,
    workers: int | None = None,
    bad: BadImages | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, list[Path]]:
    """Measure a model on ``images`` and write the report into the folder ``out``.

    The report of a run folder has the story of its training too. ``about`` says in words what the
    images are, ``dataset`` is their name for model hubs. ``history``: what ``compress --json``
    printed for this file. ``chose_weights``: the run picked its best epoch by these images. Returns
    what was measured and the files written, the card first.

    Raises:
        UsageError: ``out`` has files that squeezenet did not write, or ``history`` is of another
            file.
        CheckpointError: another process writes in ``out``, or it cannot be written.
    """
    from squeezenet.report.card import Measured
    from squeezenet.report.history import read_history
    from squeezenet.report.write import REPORT_FILES, read_metrics, write_report

    is_ours = _is_own_report(opened, out)
    OutputFolder(out, is_ours=is_ours).check(REPORT_FILES)  # before the predictions, not after
    known = None if history is None else read_history(history, opened.file_bytes)
    batches = EvalBatches(images, opened.record.preprocessing, workers=workers, bad=bad)
    predicted = predict(opened.network, opened.record, batches, progress=progress)
    metrics: list[dict[str, Any]] = []
    if opened.source.argument is ModelKind.RUN_FOLDER:
        from squeezenet.train.run_folder import RunFolder

        metrics = read_metrics(RunFolder(opened.source.path.parent).metrics, progress)
    measured = Measured(
        predicted=predicted,
        data=about,
        chose_weights=chose_weights,
        history=known,
        **_facts(opened, dataset),
    )
    files = write_report(out, measured, images, metrics, is_ours=is_ours, progress=progress)
    return score(predicted), files


def write_card(
    opened: OpenModel,
    images: ImageSet | None = None,
    about: str = "",
    *,
    license: str = "unknown",
    dataset: str = "",
    workers: int | None = None,
    bad: BadImages | None = None,
    progress: Progress | None = None,
) -> str:
    """Return the model card of a model, measured on ``images`` if they are given.

    Without images it has what the file, or its training run, says was measured. ``about`` says in
    words what the images are. ``license`` and ``dataset`` are the names that model hubs have for
    them.

    Raises:
        UsageError: ``license`` or ``dataset`` is no such name.
    """
    from squeezenet.report.card import Measured, ModelFacts, model_card
    from squeezenet.report.front_matter import require_license

    require_license(license)
    known = _facts(opened, dataset) | {"license": license}
    if images is None:
        return model_card(ModelFacts(**known))
    batches = EvalBatches(images, opened.record.preprocessing, workers=workers, bad=bad)
    predicted = predict(opened.network, opened.record, batches, progress=progress)
    return model_card(Measured(predicted=predicted, data=about, chose_weights=False, **known))


def _facts(opened: OpenModel, dataset: str) -> dict[str, Any]:
    """The fields of ``ModelFacts``: what the model's file and its run say."""
    result: dict[str, Any] = {}
    if opened.source.argument is ModelKind.RUN_FOLDER:
        from squeezenet.train.run_folder import RunFolder

        result = RunFolder(opened.source.path.parent).read_result() or {}
    layers: tuple[LayerSizes, ...] = ()
    if opened.source.kind.is_compressed:
        layers = tuple(layer_sizes(read_compressed(opened.source).layers))
    return {
        "record": opened.record,
        "file_bytes": opened.file_bytes,
        "result": result,
        "layers": layers,
        "file_sha256": opened.source.sha256,
        "dataset": dataset,
    }


def _is_own_report(opened: OpenModel, out: Path) -> bool:
    """Whether ``out`` is the folder for the report inside the run that was opened."""
    if opened.source.argument is not ModelKind.RUN_FOLDER:
        return False
    from squeezenet.train.run_folder import REPORT

    return out.absolute() == (opened.source.path.parent / REPORT).absolute()
