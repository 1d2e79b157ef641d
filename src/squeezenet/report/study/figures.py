"""Figures of a study: accuracy against model size and against the metaparameter."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from squeezenet.report.point_labels import label_points
from squeezenet.report.render import use_log_x
from squeezenet.report.study.results import StudyResults, VariantRow

_BLUE, _ORANGE = "#0072B2", "#D55E00"
_MEGABYTE = 1_000_000


def study_figures(results: StudyResults) -> dict[str, Figure]:
    """Return the figures by name; none if no trial is done.

    "size" has the axes of the paper's figure 3: megabytes of float32 weights and accuracy, with
    the metaparameter beside each point. "value" has the metaparameter itself on its axis. Error
    bars are one standard error over seeds. Of a search, "bytes" and "macs" show its front.
    """
    if results.search is not None:
        return _search_figures(results)
    rows = results.variants()
    if not rows:
        return {}
    return {"size": _by_size(results, rows), "value": _by_value(results, rows)}


def _by_size(results: StudyResults, rows: Sequence[VariantRow]) -> Figure:
    figure, axes = _axes(results)
    sizes = [row.measures.weight_bytes / _MEGABYTE for row in rows]
    _points(axes, sizes, rows, line=_is_curve(sizes, rows))
    axes.set_xlabel(f"float32 weights, MB (beside the points: {results.axis})")
    axes.margins(x=0.1)
    label_points(
        axes,
        [(size, row.top1.mean) for size, row in zip(sizes, rows, strict=True)],
        [row.label for row in rows],
        ["black"] * len(rows),
    )
    return figure


def _by_value(results: StudyResults, rows: Sequence[VariantRow]) -> Figure:
    figure, axes = _axes(results)
    values = [row.x for row in rows if row.x is not None]
    if len(values) == len(rows):
        _points(axes, values, rows, line=_is_curve(values, rows))
    else:
        _points(axes, range(len(rows)), rows, line=False)
        axes.set_xticks(range(len(rows)), [row.label for row in rows])
        axes.margins(x=0.2)
    axes.set_xlabel(results.axis)
    return figure


def _axes(results: StudyResults) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{results.title}: top-1 on {results.data}", fontsize=10)
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(alpha=0.3)
    return figure, axes


def _points(axes: Axes, x: Sequence[float], rows: Sequence[VariantRow], *, line: bool) -> None:
    axes.errorbar(
        list(x),
        [row.top1.mean for row in rows],
        yerr=[row.top1.error or 0.0 for row in rows],
        fmt="o-" if line else "o",
        color=_BLUE,
        capsize=3,
        markersize=5,
    )


def _is_curve(x: Sequence[float], rows: Sequence[VariantRow]) -> bool:
    """Whether a line through the points says something: they are in the metaparameter's order."""
    return all(row.x is not None for row in rows) and sorted(x) == list(x)


def _search_figures(results: StudyResults) -> dict[str, Figure]:
    done = [(t, t.measures) for t in results.trials if t.state == "done" and t.measures]
    if not done:
        return {}
    on_front = {trial.name for trial in results.front_trials()}
    figures = {}
    for name, title, values in (
        ("bytes", "bytes of the compressed file", [m.file_bytes or 0 for _, m in done]),
        ("macs", "multiply-accumulates per image", [m.macs for _, m in done]),
    ):
        figure, axes = _axes(results)
        for is_front, colour, label in ((False, "0.6", "others"), (True, _ORANGE, "front")):
            chosen = [i for i, (t, _) in enumerate(done) if (t.name in on_front) == is_front]
            axes.plot(
                [values[i] for i in chosen],
                [done[i][1].top1 for i in chosen],
                "o",
                color=colour,
                label=label,
                markersize=5,
            )
        use_log_x(axes)
        axes.set_xlabel(title)
        axes.legend(loc="lower right", frameon=False)
        figures[name] = figure
    return figures
