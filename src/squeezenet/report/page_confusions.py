"""Sections of a report's page: the confusion matrix, the worst pairs, and every mistake."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial

import numpy as np

from squeezenet.images.bad import with_notes
from squeezenet.images.sets import ImageSet, Labels
from squeezenet.images.thumbnail import thumbnail
from squeezenet.report.card import Measured
from squeezenet.report.csv_cells import csv_text
from squeezenet.report.markup import attribute, data_url, details, section, table, text
from squeezenet.report.mistakes import (
    Confusions,
    Mistake,
    confusions,
    most_confused,
    worst_mistakes,
)

_MAX_CLASSES = 25
"""Rows and columns of the matrix; of more classes those with the most mistakes are shown."""
_MAX_RECALLS = 40
_MAX_PAIRS, _PICTURES_PER_PAIR = 8, 3
_MAX_PICTURES = 24
_SIDE = 96
"""Pixels per side of a picture, about 3 KB: 48 of them are a few hundred KB as text."""
_SMALL = 48
"""Smaller pictures are enlarged without blurring."""
_MAX_LISTED = 5_000
"""Mistakes inside the page, the most confident first; ``mistakes.csv`` has all."""


def confusion_section(measured: Measured, images: ImageSet) -> tuple[str, str, str]:
    """Show the matrix, the pairs of classes confused most often with pictures, and the recall."""
    counted, names = confusions(measured.predicted), measured.record.class_names
    pairs = most_confused(counted, _MAX_PAIRS)
    found = _all_mistakes(measured)
    shown = []
    for pair in pairs:
        own = [m for m in found if (m.label, m.predicted) == (pair.label, pair.predicted)]
        title = (
            f"{text(names[pair.label])} taken for {text(names[pair.predicted])}: "
            f"{pair.count:,} of {pair.total:,}"
        )
        worst = _pictures(own[:_PICTURES_PER_PAIR], images, names)
        shown.append(f"<div><h3>{title}</h3>\n{worst}</div>")
    pictures = f'<div class="pairs">{"".join(shown)}</div>'
    return section(
        "confusion",
        "Confusion",
        _matrix(counted, names),
        _recalls(counted, names),
        pictures if shown else "<p>No two classes are confused.</p>",
    )


def _matrix(counted: Confusions, names: Sequence[str]) -> str:
    classes: Labels = np.arange(counted.num_classes)
    about = "Images by class (rows) and predicted class (columns)"
    if counted.num_classes > _MAX_CLASSES:
        classes = counted.most_mistaken(_MAX_CLASSES)
        about += f", the {_MAX_CLASSES} of {counted.num_classes:,} classes with most mistakes"
    matrix, totals = counted.matrix(classes), np.maximum(counted.images_K[classes], 1)
    rows = "\n".join(
        f'<tr><th scope="row">{text(names[k])}</th>'
        + "".join(_cell(int(n), int(totals[i])) for n in matrix[i])
        + "</tr>"
        for i, k in enumerate(classes.tolist())
    )
    titles = "".join(f'<th scope="col">{text(names[k])}</th>' for k in classes.tolist())
    return (
        f'<div class="scroll matrix" role="region" tabindex="0" aria-label={attribute(about)}>'
        f"<table><caption><span>{text(about)}</span></caption>"
        f'<thead><tr><th scope="col">class</th>{titles}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cell(count: int, total: int) -> str:
    if not count:
        return "<td></td>"
    share = count / total
    return f'<td style="--p:{share:.3f}" title="{100 * share:.1f}% of the class">{count}</td>'


def _recalls(counted: Confusions, names: Sequence[str]) -> str:
    """Recall and precision of the classes that have images, the lowest recall first."""
    totals, predicted, correct = counted.images_K, counted.predictions_K, counted.correct_K
    seen: Labels = np.flatnonzero(totals)
    recall = 100 * correct[seen] / totals[seen]
    order = np.argsort(recall, kind="stable")[:_MAX_RECALLS]
    rows = []
    for i in order:
        k = seen[i]
        precision = f"{100 * correct[k] / predicted[k]:.1f}%" if predicted[k] else "-"
        rows.append([text(names[k]), f"{totals[k]:,}", f"{recall[i]:.1f}%", precision])
    title = "Recall and precision per class"
    if len(order) < len(seen):
        title += f", the {len(order)} lowest of {len(seen):,}"
    return details(title, table(title, ["class", "images", "recall", "precision"], rows))


def mistakes_section(measured: Measured, images: ImageSet) -> tuple[str, str, str]:
    """Show the most confident mistakes, and list the files of all to download."""
    found, names = _all_mistakes(measured), measured.record.class_names
    num_images = len(measured.predicted.labels)
    if not found:
        return section("mistakes", "Mistakes", f"<p>None on {num_images:,} images.</p>")
    inside = found[:_MAX_LISTED]
    count = f"{len(found):,} of {num_images:,} images"
    note = ""
    if len(inside) < len(found):
        note = f"<p>The list has the first {len(inside):,}; mistakes.csv beside it has all.</p>"
    link = data_url("text/csv;charset=utf-8", mistakes_csv(measured, images, len(inside)))
    files = "".join(
        f"<li>{text(images.name(m.index))}: {text(names[m.label])}, predicted "
        f"{text(names[m.predicted])} {100 * m.probability:.1f}%</li>"
        for m in inside
    )
    return section(
        "mistakes",
        "Mistakes",
        f"<p>{count} are predicted wrongly. The most confident mistakes come first; often a label "
        "is wrong.</p>",
        _pictures(found[:_MAX_PICTURES], images, names),
        f'<p><a class="button" download="mistakes.csv" href="{link}">Download '
        "the list (CSV)</a></p>",
        note,
        details(
            f"Their files ({len(inside):,})",
            f'<ol class="files" tabindex="0" aria-label="Files of the mistakes">{files}</ol>',
        ),
    )


def mistakes_csv(measured: Measured, images: ImageSet, count: int | None = None) -> bytes:
    """Return the mistakes as CSV, UTF-8, most confident first: file, class, prediction.

    ``count``: at most so many; all by default. No spreadsheet takes a cell for a formula.
    """
    names, lines = measured.record.class_names, io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["file", "class", "predicted", "probability"])
    for m in _all_mistakes(measured)[:count]:
        cells = (images.name(m.index), names[m.label], names[m.predicted])
        writer.writerow([*map(csv_text, cells), f"{m.probability:.4f}"])
    return lines.getvalue().encode("utf-8", "backslashreplace")


def _all_mistakes(measured: Measured) -> list[Mistake]:
    return worst_mistakes(measured.predicted, len(measured.predicted.labels))


def _pictures(mistakes: Sequence[Mistake], images: ImageSet, names: Sequence[str]) -> str:
    items = []
    for m in mistakes:
        pixels_HWC, _ = with_notes(partial(images.pixels, m.index))
        small = ' class="small"' if min(pixels_HWC.shape[:2]) < _SMALL else ""
        url = data_url(*thumbnail(pixels_HWC, _SIDE))
        label, predicted = text(names[m.label]), text(names[m.predicted])
        file = text(images.name(m.index).replace("\\", "/").rpartition("/")[2])
        items.append(
            f'<li><img{small} src="{url}" width="96" height="96" loading="lazy" '
            f'alt="{file}: {label}, predicted {predicted}">'
            f"<strong>{predicted}</strong> {100 * m.probability:.1f}%<br>is {label}</li>"
        )
    return f'<ul class="pictures">{"".join(items)}</ul>'
