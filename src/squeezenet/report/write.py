"""Write a report: a folder of figures and ``MODEL_CARD.md``."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.figure import Figure

from squeezenet.arch.record import ModelRecord
from squeezenet.evaluation.metrics import score
from squeezenet.files import remove_leftovers, write_bytes_atomically
from squeezenet.images.sets import ImageSet
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

CARD = "MODEL_CARD.md"
_MAX_MISTAKES = 24
"""Four rows of six pictures."""
_DPI = 120
_METRICS = {
    "train": {"epoch", "loss", "learning_rate"},
    "val": {"epoch", "top1", "top5"},
}
"""The keys that a line of each kind must have to be drawn."""


def write_report(
    folder: Path,
    measured: Measured,
    images: ImageSet,
    metrics: Sequence[dict[str, Any]] = (),
    *,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the figures and the card; return their paths, the card first.

    The figures are "curves" (if there are ``metrics``), "confusion" and "mistakes", each as .png
    and .svg. ``images`` is the set of the predictions. Equal input gives equal bytes, with equal
    fonts. ``progress`` is told which names no font can draw.
    """
    with rc_context():
        rcdefaults()  # independent of the user's own style
        rcParams["svg.hashsalt"] = "squeezenet"
        rcParams["svg.fonttype"] = "none"
        rcParams["text.parse_math"] = False  # names may have dollar signs
        return _write(folder, measured, images, metrics, progress or SilentProgress())


def _write(
    folder: Path,
    measured: Measured,
    images: ImageSet,
    metrics: Sequence[dict[str, Any]],
    progress: Progress,
) -> list[Path]:
    spec, counted = measured.record.spec, confusions(measured.predicted)
    mistakes = worst_mistakes(measured.predicted, _MAX_MISTAKES)
    names = _drawn_names(measured.record, counted, mistakes, progress)
    top1 = score(measured.predicted).top1
    about = f"{spec.name}, top-1 {top1:.1f}% on {len(measured.predicted.labels):,} images"
    figures: dict[str, Figure] = {}
    if metrics:
        figures["curves"] = training_curves(metrics, spec.name)
    figures["confusion"] = confusion_figure(counted, names, about)
    title = "the most confident mistakes" if mistakes else "no mistakes"
    figures["mistakes"] = mistakes_figure(mistakes, images, names, f"{spec.name}: {title}")
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    paths = []
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            path = folder / f"{name}{suffix}"
            write_bytes_atomically(path, _rendered(figure, suffix[1:]))
            paths.append(path)
    # The card comes last: a report with a card is complete.
    card = model_card(measured, [path.name for path in paths if path.suffix == ".png"])
    write_bytes_atomically(folder / CARD, card.encode())
    return [folder / CARD, *paths]


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


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; skip invalid lines, and return nothing if the file is missing."""
    if not file.is_file():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and _METRICS.get(str(line.get("kind")), {""}) <= line.keys():
            lines.append(line)
    return lines


def _rendered(figure: Figure, kind: str) -> bytes:
    """Render a figure without date and random ids, so that equal figures give equal bytes."""
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings():
        # Names that no font has are drawn as boxes after a number; the card has them in text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata)
    return file.getvalue()
