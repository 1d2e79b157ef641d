"""Sections of a report's page: training curves, and where the model comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from squeezenet.report.card import Measured, preprocessing_text
from squeezenet.report.charts import Series, chart, span
from squeezenet.report.figures import smooth
from squeezenet.report.markup import details, figure, section, table, text

_MAX_POINTS = 300
"""Points of a curve: more would not be seen on a phone, and take 10 bytes each."""
_MAX_ROWS = 300
"""Rows of a table; of a longer training those of the last epochs."""


def training_section(metrics: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """Draw loss, learning rate and accuracy over epochs, and list every validation."""
    train = [line for line in metrics if line["kind"] == "train"]
    val = [line for line in metrics if line["kind"] == "val"]
    charts = []
    if train:
        epochs = [line["epoch"] for line in train]
        losses = np.array([line["loss"] for line in train], np.float64)
        axis = span("epoch", epochs, zero=True)
        rates = [line["learning_rate"] for line in train]
        curves = [
            Series(points=_thinned(epochs, losses), style="faint"),
            Series(points=_thinned(epochs, smooth(losses)), style="c1"),
        ]
        charts += [
            figure(
                chart("Training loss by epoch", axis, span("loss", losses.tolist()), series=curves),
                f"Training loss, with its moving average; {losses[-1]:.4f} at the end.",
            ),
            figure(
                chart(
                    "Learning rate by epoch",
                    axis,
                    span("learning rate", rates, zero=True),
                    series=[Series(points=_thinned(epochs, rates), style="c1")],
                    height=150,
                ),
                "Learning rate.",
            ),
        ]
    listed = ""
    if val:
        charts.insert(0, _accuracy(val))
        rows = [
            [f"{line['epoch']:g}", f"{line['top1']:.2f}%", f"{line['top5']:.2f}%"]
            for line in val[-_MAX_ROWS:]
        ]
        title = f"Every validation, {len(val):,} in all"
        listed = details(title, table(title, ["epoch", "top-1", "top-5"], rows))
    return section("training", "Training", f'<div class="charts">{"".join(charts)}</div>', listed)


def _accuracy(val: Sequence[dict[str, Any]]) -> str:
    top1 = [line["top1"] for line in val]
    best = len(top1) - 1 - int(np.argmax(top1[::-1]))
    epochs, series = [line["epoch"] for line in val], []
    shown = list(top1)
    if any(line["top5"] < 100 for line in val):
        top5 = [line["top5"] for line in val]
        shown += top5
        series.append(Series(points=_thinned(epochs, top5), style="c2"))
    series.append(Series(points=_thinned(epochs, top1), style="c1", dots=len(val) <= 60))
    dashed = " (top-5: dashed)" if len(series) > 1 else ""
    return figure(
        chart(
            "Validation accuracy by epoch",
            span("epoch", epochs, zero=True),
            span("accuracy, %", shown),
            series=series,
        ),
        f"Top-1 accuracy on the validation images{dashed}; best {top1[best]:.2f}% after epoch "
        f"{val[best]['epoch']:g}.",
    )


def _thinned(x: Sequence[float], y: Sequence[float] | Any) -> list[tuple[float, float]]:
    """At most ``_MAX_POINTS`` of the points, evenly, with the first and the last."""
    count = len(x)
    places = range(count)
    if count > _MAX_POINTS:
        places = np.unique(np.linspace(0, count - 1, _MAX_POINTS).astype(int)).tolist()
    return [(float(x[i]), float(y[i])) for i in places]


def provenance_section(measured: Measured) -> tuple[str, str, str]:
    """List what the file's record and its run say of where it comes from."""
    rows = [("preprocessing", preprocessing_text(measured.record))]
    if measured.file_sha256:
        rows.append(("SHA-256 of the file", measured.file_sha256))
    rows += [(f"run: {key}", _plain(value)) for key, value in sorted(measured.result.items())]
    rows += [(key, _plain(value)) for key, value in _flat(measured.record.provenance)]
    left = len(rows) - _MAX_ROWS
    cells = [[_breakable(text(key)), text(value)] for key, value in rows[:_MAX_ROWS]]
    return section(
        "provenance",
        "Provenance",
        table("What the file says of itself", ["what", "value"], cells, num_text=2, kind="wide"),
        f"<p>{left:,} more values are in the file.</p>" if left > 0 else "",
    )


def _breakable(html: str) -> str:
    """Let a long dotted name break after its parts."""
    return html.replace(".", ".<wbr>").replace("_", "_<wbr>")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of plain JSON with their dotted names, objects by their keys."""
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _flat(value[key], f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, (dict, list)) for each in value):
        for i, each in enumerate(value):
            yield from _flat(each, f"{name}.{i}")
    else:
        yield name, value


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
