"""``squeezenet report``: what a model gets right and wrong, as pictures and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from squeezenet.api.open_model import OpenModel, open_model
from squeezenet.cli.options import (
    DIGITS,
    ArchOption,
    JsonOption,
    ModelArgument,
    SplitOption,
    StrictOption,
    WorkersOption,
    open_eval_images,
    require_workers,
)
from squeezenet.cli.output import bad_images, make_progress, plain, print_json, report_skipped
from squeezenet.cli.table import print_text
from squeezenet.codec.model_kinds import ModelKind, model_kind
from squeezenet.errors import UsageError
from squeezenet.evaluation.metrics import Evaluation, score
from squeezenet.evaluation.predict import predict
from squeezenet.extras import require_extra
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from squeezenet.images.sets import ImageSet, eval_split
from squeezenet.progress import Progress


def report(
    model: ModelArgument,
    data: Annotated[
        str,
        Parameter(
            help="Folder of class folders, or of train/, val/ and test/ with such folders. Or the "
            "word digits."
        ),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for the pictures and the card.")],
    split: SplitOption = None,
    arch: ArchOption = None,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Draw curves, confusion matrix, mistakes; write a model card."""
    require_extra("report", "drawing a report")
    require_workers(workers)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file, expected a folder")
    out.mkdir(parents=True, exist_ok=True)  # fails before the predictions, not after
    progress = make_progress()
    opened = open_model(model, arch)
    images = open_eval_images(data, opened.record, split)
    bad = bad_images(progress, strict=strict)
    about = f"from {Path(data).resolve().name}"
    if data != DIGITS and (chosen := eval_split(Path(data), split)):
        about += f", its part {chosen}/"
    measured, paths = draw_report(
        opened, images, out, about, run=model, workers=workers, bad=bad, progress=progress
    )
    report_skipped(bad, progress)
    if json:
        print_json(plain({**vars(measured), "files": [str(path) for path in paths]}))
        return
    print_text(f"top-1 {measured.top1:.1f}% on {measured.images} images; {paths[0]}")


def draw_report(
    opened: OpenModel,
    images: ImageSet,
    out: Path,
    about: str,
    *,
    run: Path,
    chose_weights: bool = False,
    workers: int | None,
    bad: BadImages,
    progress: Progress,
) -> tuple[Evaluation, list[Path]]:
    """Predict ``images`` and write the report, with the curves of ``run`` if it is a run folder.

    ``chose_weights``: the run chose its best epoch on these images.
    """
    from squeezenet.report.card import Measured
    from squeezenet.report.write import read_metrics, write_report

    batches = EvalBatches(images, opened.record.preprocessing, workers=workers, bad=bad)
    predicted = predict(opened.network, opened.record, batches, progress=progress)
    metrics: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    if model_kind(run) is ModelKind.RUN_FOLDER:
        from squeezenet.train.run_folder import RunFolder

        folder = RunFolder(run)
        metrics, result = read_metrics(folder.metrics), folder.read_result() or {}
    measured = Measured(
        record=opened.record,
        predicted=predicted,
        file_bytes=opened.file_bytes,
        data=about,
        chose_weights=chose_weights,
        result=result,
    )
    return score(predicted), write_report(out, measured, images, metrics)
