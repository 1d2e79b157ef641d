"""Write a report: one page, a folder of figures, the list of mistakes, and ``MODEL_CARD.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

from squeezenet.arch.record import ModelRecord
from squeezenet.evaluation.metrics import score
from squeezenet.images.sets import ImageSet
from squeezenet.output_folder import OutputFolder
from squeezenet.progress import Progress, SilentProgress
from squeezenet.report.card import Measured, model_card
from squeezenet.report.figures import (
    confusion_figure,
    mistakes_figure,
    named_classes,
    training_curves,
)
from squeezenet.report.fonts import fonts_for
from squeezenet.report.mistakes import Confusions, Mistake, confusions, worst_mistakes
from squeezenet.report.page import html_page
from squeezenet.report.page_confusions import mistakes_csv
from squeezenet.report.render import FIGURE_SUFFIXES, rendered, reproducible_figures
from squeezenet.sealed_files import read_sealed_lines

CARD = "MODEL_CARD.md"
PAGE = "report.html"
MISTAKES_LIST = "mistakes.csv"
_CURVES, _CONFUSION, _MISTAKES = "curves", "confusion", "mistakes"
REPORT_FILES = (
    *(f"{name}{suffix}" for name in (_CURVES, _CONFUSION, _MISTAKES) for suffix in FIGURE_SUFFIXES),
    MISTAKES_LIST,
    PAGE,
    CARD,
)
"""The names of all files that a report may have."""
_MAX_MISTAKES = 24
"""Four rows of six pictures."""
_METRICS = {
    "train": {"epoch", "loss", "learning_rate"},
    "val": {"epoch", "top1", "top5"},
}
"""The keys that a line of each kind must have to be drawn."""
_MAX_DRAWN = 1e30
"""Matplotlib cannot draw numbers near the largest float, NaN or infinity."""


def write_report(
    folder: Path,
    measured: Measured,
    images: ImageSet,
    metrics: Sequence[dict[str, Any]] = (),
    *,
    is_ours: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the page, the figures and the card; return their paths, the card first.

    ``report.html`` has everything inside. The figures are "curves" (if there are ``metrics``),
    "confusion" and "mistakes", each as .png and .svg. ``images`` is the set of the predictions.
    ``is_ours``: see ``OutputFolder``. Equal input gives equal bytes, with equal fonts.
    ``progress`` is told which names no font can draw.

    Raises:
        UsageError, CheckpointError: see ``OutputFolder.write``.
    """
    with reproducible_figures():
        files = _rendered_files(measured, images, metrics, progress or SilentProgress())
    *paths, card = OutputFolder(folder, is_ours=is_ours).write(files)
    return [card, *paths]


def _rendered_files(
    measured: Measured,
    images: ImageSet,
    metrics: Sequence[dict[str, Any]],
    progress: Progress,
) -> dict[str, bytes]:
    spec, counted = measured.record.spec, confusions(measured.predicted)
    mistakes = worst_mistakes(measured.predicted, _MAX_MISTAKES)
    names = _drawn_names(measured.record, counted, mistakes, progress)
    top1 = score(measured.predicted).top1
    about = f"{spec.name}, top-1 {top1:.1f}% on {len(measured.predicted.labels):,} images"
    figures: dict[str, Figure] = {}
    if metrics:
        figures[_CURVES] = training_curves(metrics, spec.name)
    figures[_CONFUSION] = confusion_figure(counted, names, about)
    title = "the most confident mistakes" if mistakes else "no mistakes"
    figures[_MISTAKES] = mistakes_figure(mistakes, images, names, f"{spec.name}: {title}")
    files = {
        f"{name}{suffix}": rendered(figure, suffix[1:])
        for name, figure in figures.items()
        for suffix in FIGURE_SUFFIXES
    }
    files[MISTAKES_LIST] = mistakes_csv(measured, images)
    files[PAGE] = html_page(measured, images, metrics).encode()
    # The card comes last: a report with a card is complete.
    files[CARD] = model_card(measured, [name for name in files if name.endswith(".png")]).encode()
    return files


def _drawn_names(
    record: ModelRecord, counted: Confusions, mistakes: Sequence[Mistake], progress: Progress
) -> list[str]:
    """Choose the fonts of the figures, and return what stands for each class in them."""
    names = list(record.class_names)
    drawn = {*named_classes(counted), *(k for m in mistakes for k in (m.label, m.predicted))}
    fonts = fonts_for([record.spec.name, *(names[k] for k in drawn)])
    if fonts.note:
        progress.log(fonts.note)
    rcParams["font.family"] = list(fonts.families)
    for k in drawn:
        names[k] = fonts.label(names[k], k)
    return names


def read_metrics(file: Path, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; nothing if the file is missing.

    Damaged lines are skipped, and counted in a line to ``progress``. So are lines without what is
    drawn.
    """
    lines, num_bad = read_sealed_lines(file)
    if num_bad:
        (progress or SilentProgress()).log(f"{file}: {num_bad} damaged lines are left out")
    return [line for line in lines if _can_be_drawn(line)]


def _can_be_drawn(line: dict[str, Any]) -> bool:
    keys = _METRICS.get(line["kind"]) if isinstance(line.get("kind"), str) else None
    if keys is None:
        return False
    values = [line.get(key) for key in keys]
    return all(isinstance(v, (int, float)) and abs(v) < _MAX_DRAWN for v in values)
