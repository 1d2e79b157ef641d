"""A study as one HTML page: charts, and tables that sort by their columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from squeezenet.report.charts import Axis, Series, chart, span
from squeezenet.report.document import document
from squeezenet.report.markup import code, facts, figure, section, table, text
from squeezenet.report.sorting import SORT_SCRIPT, SORTABLE
from squeezenet.report.study.results import Estimate, StudyResults, VariantRow
from squeezenet.report.study.search_page import search_sections

_MEGABYTE = 1_000_000


def study_page(results: StudyResults) -> str:
    """Return the page."""
    if results.search is not None:
        sections = search_sections(results, results.search)
    else:
        rows = results.variants()
        sections = [_summary(results, rows)]
        if rows:
            sections += [_charts(results, rows), _variants(results, rows)]
        sections.append(_trials(results))
    sections.append(_settings(results))
    return document(
        title=f"{results.name}: study",
        heading=f"{results.title}: a study",
        about=f"{results.count('done')} trainings, measured on {results.data}",
        sections=sections,
        script=SORT_SCRIPT,
    )


def difference(row: VariantRow, best: VariantRow) -> Estimate | None:
    """Return the top-1 of a network less that of the best; None for the best itself.

    Its standard error is that of a difference of two independent means.
    """
    if row is best:
        return None
    errors = (row.top1.error, best.top1.error)
    error = None
    if errors[0] is not None and errors[1] is not None:
        error = math.hypot(errors[0], errors[1])
    return Estimate(
        mean=row.top1.mean - best.top1.mean,
        error=error,
        count=min(row.top1.count, best.top1.count),
    )


def _summary(results: StudyResults, rows: Sequence[VariantRow]) -> tuple[str, str, str]:
    pairs = [("trials done", str(results.count("done")))]
    for state in ("running", "waiting", "failed"):
        if number := results.count(state):
            pairs.append((f"trials {state}", str(number)))
    notes = ""
    if rows:
        best = max(rows, key=lambda row: row.top1.mean)
        small = min(rows, key=lambda row: row.measures.weight_bytes)
        pairs += [
            ("most accurate", f"{text(best.label)}: {text(best.top1)}%"),
            ("smallest", f"{text(small.label)}: {_megabytes(small)} MB, {text(small.top1)}%"),
        ]
        notes = "<p>± is one standard error over seeds. MB are millions of bytes of float32.</p>"
    return section("summary", "Summary", facts(pairs), notes)


def _charts(results: StudyResults, rows: Sequence[VariantRow]) -> tuple[str, str, str]:
    sizes = [row.measures.weight_bytes / _MEGABYTE for row in rows]
    charts = [_chart(results, rows, sizes, "float32 weights, MB")]
    values = [row.x for row in rows if row.x is not None]
    if len(values) == len(rows):
        charts.append(_chart(results, rows, values, results.axis))
    return section("charts", "Charts", f'<div class="charts">{"".join(charts)}</div>')


def _chart(
    results: StudyResults, rows: Sequence[VariantRow], x: Sequence[float], title: str
) -> str:
    means = [row.top1.mean for row in rows]
    errors = [row.top1.error or 0.0 for row in rows]
    ends = [m + sign * e for m, e in zip(means, errors, strict=True) for sign in (1, -1)]
    ordered = all(row.x is not None for row in rows) and sorted(x) == list(x)
    labels = [f"{row.label}: top-1 {row.top1}%" for row in rows]
    series = Series(
        points=list(zip(x, means, strict=True)),
        style="c1",
        line=ordered,
        dots=True,
        labels=labels,
        texts=[row.label for row in rows],
        errors=errors,
    )
    across = span(title, x)
    wide = 0.12 * (across.high - across.low)  # room for the text of the last point
    drawn = chart(
        f"top-1 against {title}: " + "; ".join(labels),
        Axis(title=title, low=across.low, high=across.high + wide),
        span("top-1, %", ends),
        series=[series],
    )
    return figure(drawn, f"Top-1 against {title}. Beside the points: {results.axis}.")


def _variants(results: StudyResults, rows: Sequence[VariantRow]) -> tuple[str, str, str]:
    best = max(rows, key=lambda row: row.top1.mean)
    top5 = ["top-5, %"] if results.has_top5 else []
    paper = dict(results.paper)
    differs = any(row.x is not None and f"{row.x:g}" != row.label for row in rows)
    cells = [
        [
            text(row.label),
            *([f"{row.x:.3f}"] if differs and row.x is not None else []),
            text(row.top1),
            text(difference(row, best) or "best"),
            *([text(row.top5)] if top5 else []),
            str(row.top1.count),
            _megabytes(row),
            f"{row.measures.parameters:,}",
            f"{row.measures.macs:,}",
            f"{row.seconds:,.0f}",
            *([text(paper.get(row.label, ""))] if paper else []),
        ]
        for row in rows
    ]
    head = [
        results.axis, *(["as built"] if differs else []), "top-1, %", "to the best", *top5, "seeds",
        "MB", "parameters", "MACs per image", "seconds of training",
        *(["paper, ImageNet: top-1/top-5"] if paper else []),
    ]  # fmt: skip
    return section(
        "networks", "Networks", table("Means over seeds", head, cells, num_text=1, kind=SORTABLE)
    )


def _trials(results: StudyResults) -> tuple[str, str, str]:
    cells = []
    for trial in results.trials:
        m = trial.measures
        cells.append(
            [
                text(trial.name),
                text(trial.error or trial.state),
                f"{m.top1:.2f}" if m else "",
                f"{m.top5:.2f}" if m else "",
                f"{m.epochs:.3g}" if m else "",
                f"{m.seconds:,.0f}" if m else "",
            ]
        )
    head = ["trial", "state", "top-1, %", "top-5, %", "epochs", "seconds"]
    return section(
        "trials",
        "Trials",
        "<p>Each trial is a run folder in <code>trials/</code>, which <code>squeezenet report"
        "</code>, <code>eval</code> and <code>compress</code> open.</p>",
        table("All trials", head, cells, num_text=2, kind=SORTABLE),
    )


def _settings(results: StudyResults) -> tuple[str, str, str]:
    pairs = [(name, text(value)) for name, value in results.settings]
    command = f"<p>Made by</p>{code(results.command)}"
    return section("settings", "What all trials share", facts(pairs), command)


def _megabytes(row: VariantRow) -> str:
    return f"{row.measures.weight_bytes / _MEGABYTE:.2f}"
