"""The sections of a search's page: the front, the finalists, what matters, all trials."""

from __future__ import annotations

from collections.abc import Sequence

from squeezenet.report.charts import Series, chart, span
from squeezenet.report.markup import attribute, code, facts, figure, section, table, text
from squeezenet.report.sorting import SORTABLE
from squeezenet.report.study.results import SearchResults, StudyResults, TrialMeasures, TrialRow

Section = tuple[str, str, str]
Measured = tuple[TrialRow, TrialMeasures]
_WIDTH, _HEIGHT = 720, 340
_LEFT, _RIGHT = 34, 64
"""Room for the numbers of the first axis and the name of the last."""
_TOP, _BOTTOM = 30, 60


def search_sections(results: StudyResults, search: SearchResults) -> list[Section]:
    """Return the sections, in the page's order."""
    measured = [(row, row.measures) for row in results.trials if row.measures is not None]
    done = [each for each in measured if each[0].state == "done"]
    return [
        _best(results, search),
        *([_front(results, done)] if done else []),
        *([_finalists(search)] if search.finalists else []),
        *([_dimensions(search, done)] if done else []),
        _trials(measured),
    ]


def _best(results: StudyResults, search: SearchResults) -> Section:
    title = "Best within the budgets"
    rows = [("networks trained", str(len(results.trials)))]
    if given_up := results.count("stopped"):
        rows.append(("of them given up early", str(given_up)))
    if failed := results.count("failed"):
        rows.append(("failed", str(failed)))
    best = next((row for row in results.trials if row.name == search.best), None)
    if best is None or best.measures is None:
        note = "<p>No network is within the budgets; more trials may find one.</p>"
        return section("best", title, facts(rows), note)
    m = best.measures
    rows += [
        ("the most accurate", text(best.name)),
        ("top-1", f"{m.top1:.2f}%"),
        ("bytes of the file, estimated", f"{m.file_bytes or 0:,}"),
        ("multiply-accumulates", f"{m.macs:,}"),
        ("arena", f"{m.arena_bytes or 0:,} bytes"),
    ]
    if m.latency_ms is not None:
        rows.append(("milliseconds per image", f"{m.latency_ms:.3g}"))
    command = f"<p>Trained in full by</p>{code(search.train_best)}" if search.train_best else ""
    return section("best", title, facts(rows), command)


def _front(results: StudyResults, done: Sequence[Measured]) -> Section:
    on_front = [row.name for row in results.front_trials()]
    charts = _scatter(
        done, on_front, "bytes of the compressed file", [float(m.file_bytes or 0) for _, m in done]
    ) + _scatter(done, on_front, "multiply-accumulates", [float(m.macs) for _, m in done])
    rows = [
        [
            text(row.name),
            f"{m.top1:.2f}",
            f"{m.file_bytes or 0:,}",
            f"{m.macs:,}",
            f"{m.arena_bytes or 0:,}",
            f"{m.parameters:,}",
        ]
        for row in results.front_trials()
        if (m := row.measures) is not None
    ]
    head = ["network", "top-1, %", "file bytes", "MACs", "arena bytes", "parameters"]
    return section(
        "front",
        "Front",
        "<p>No other network beats these in accuracy, bytes and multiply-accumulates alike.</p>",
        f'<div class="charts">{charts}</div>',
        table("The front", head, rows, kind=SORTABLE),
    )


def _scatter(
    done: Sequence[Measured], on_front: Sequence[str], title: str, values: Sequence[float]
) -> str:
    series = []
    for wanted, style, radius in ((False, "c3", 2.5), (True, "c2", 4.5)):
        points = [
            (x, m.top1, row.name)
            for x, (row, m) in zip(values, done, strict=True)
            if (row.name in on_front) == wanted
        ]
        if points:
            series.append(
                Series(
                    points=[(x, y) for x, y, _ in points],
                    style=style,
                    line=False,
                    dots=True,
                    radius=radius,
                    labels=[f"{name}: {y:.2f}%" for _, y, name in points],
                )
            )
    drawn = chart(
        f"top-1 against {title}",
        span(title, values, log=min(values) > 0),
        span("top-1, %", [m.top1 for _, m in done]),
        series=series,
    )
    return figure(drawn, f"Top-1 against {title}. Large dots: the front.")


def _finalists(search: SearchResults) -> Section:
    rows = [
        [
            text(each.name),
            f"{each.estimated_bytes:,}",
            f"{each.file_bytes:,}",
            f"{100 * (each.estimated_bytes / each.file_bytes - 1):+.1f}",
            f"{each.float_top1:.2f}",
            f"{each.top1:.2f}",
        ]
        for each in search.finalists
    ]
    head = [
        "network", "estimated bytes", "measured bytes", "difference, %", "top-1, float32",
        "top-1 of the file",
    ]  # fmt: skip
    return section(
        "finalists", "Finalists, compressed", table("Finalists", head, rows, kind=SORTABLE)
    )


def _dimensions(search: SearchResults, done: Sequence[Measured]) -> Section:
    parts = []
    if search.importances:
        rows = [[text(name), f"{100 * share:.1f}"] for name, share in search.importances]
        parts.append(
            table("Shares in the differences of accuracy (fANOVA)", ["dimension", "%"], rows)
        )
    chosen = [each for each in done if each[0].choices]
    if len(chosen) > 1:
        caption = "Each line is a network; the darker, the more accurate."
        parts.append(figure(parallel_coordinates(chosen), caption))
    return section("dimensions", "Dimensions", *parts)


def parallel_coordinates(done: Sequence[Measured]) -> str:
    """Return parallel coordinates of the dimensions and of accuracy, as SVG."""
    names = list(dict.fromkeys(name for row, _ in done for name, _ in row.choices))
    axes = [_axis([dict(row.choices).get(name, 0) for row, _ in done]) for name in names]
    names.append("top-1, %")
    axes.append(_axis([round(m.top1, 1) for _, m in done]))
    gap = (_WIDTH - _LEFT - _RIGHT) / max(1, len(axes) - 1)
    low = _HEIGHT - _BOTTOM - 40
    order = sorted(range(len(done)), key=lambda i: done[i][1].top1)
    parts = []
    for rank, i in enumerate(order):
        line = " ".join(
            f"{_LEFT + gap * k:.1f},{low + shares[i] * (_TOP - low):.1f}"
            for k, (shares, _, _) in enumerate(axes)
        )
        opacity = 0.08 + 0.72 * (rank / max(1, len(order) - 1)) ** 2
        row, m = done[i]
        parts.append(
            f'<polyline class="line c1" style="opacity:{opacity:.2f}" points="{line}">'
            f"<title>{text(row.name)}: {m.top1:.2f}%</title></polyline>"
        )
    for k, (name, (_, least, most)) in enumerate(zip(names, axes, strict=True)):
        x = _LEFT + gap * k
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{low}"/>'
            f'<text x="{x:.1f}" y="{_TOP - 8}" text-anchor="middle">{text(most)}</text>'
            f'<text x="{x:.1f}" y="{low + 14}" text-anchor="middle">{text(least)}</text>'
            f'<text transform="translate({x:.1f} {low + 26}) rotate(35)">{text(name)}</text>'
        )
    label = attribute("parallel coordinates of " + ", ".join(names))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label={label}>'
        f'<svg class="wide" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label={label}>'
        f"{''.join(parts)}</svg></div>"
    )


def _axis(values: Sequence[float | str]) -> tuple[list[float], str, str]:
    """Where each value is on its axis, from 0 to 1, and the values at both ends."""
    if all(isinstance(value, int | float) for value in values):
        numbers = [float(value) for value in values]
        shown = [f"{number:g}" for number in numbers]
    else:
        words = sorted(set(map(str, values)))
        numbers = [float(words.index(str(value))) for value in values]
        shown = list(map(str, values))
    low, high = min(numbers), max(numbers)
    shares = [0.5 if high == low else (n - low) / (high - low) for n in numbers]
    return shares, shown[numbers.index(low)], shown[numbers.index(high)]


def _trials(measured: Sequence[Measured]) -> Section:
    names = list(dict.fromkeys(name for row, _ in measured for name, _ in row.choices))
    rows = []
    for row, m in measured:
        chosen = dict(row.choices)
        rows.append(
            [
                text(row.name),
                row.state,
                f"{m.top1:.2f}",
                f"{m.file_bytes or 0:,}",
                f"{m.macs:,}",
                f"{m.arena_bytes or 0:,}",
                f"{m.epochs:.3g}",
                *(text(chosen.get(name, "")) for name in names),
            ]
        )
    head = ["network", "state", "top-1, %", "file bytes", "MACs", "arena bytes", "epochs", *names]
    return section("trials", "Trials", table("All networks", head, rows, num_text=2, kind=SORTABLE))
