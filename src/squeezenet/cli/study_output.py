"""What ``squeezenet explore`` prints of a sweep, a search or a table."""

from __future__ import annotations

from squeezenet.api.compression_table import CompressionTableResult
from squeezenet.api.explore import StudyResult
from squeezenet.cli.output import plain, print_json
from squeezenet.cli.table import Column, print_table, print_text

_COLUMNS = (
    Column("network", rank=1),
    Column("top-1 %", rank=0),
    Column("top-5 %", rank=5, optional=True),
    Column("seeds", rank=4, optional=True),
    Column("MB", rank=2, optional=True),
    Column("MACs", rank=3, optional=True),
    Column("paper, ImageNet", rank=6, optional=True),
)
_SEARCH_COLUMNS = (
    Column("network", rank=1),
    Column("top-1 %", rank=0),
    Column("file bytes", rank=0),
    Column("parameters", rank=4, optional=True),
    Column("MACs", rank=2, optional=True),
    Column("arena bytes", rank=3, optional=True),
)
_TABLE_COLUMNS = (
    Column("network", rank=1),
    Column("approach", rank=1),
    Column("MB", rank=2, optional=True),
    Column("bytes", rank=0),
    Column("reduction", rank=3, optional=True),
    Column("top-1 %", rank=0),
    Column("Δ top-1", rank=2, optional=True),
    Column("paper, ImageNet", rank=4, optional=True),
)


def print_study_json(found: StudyResult) -> None:
    """Print a sweep or a search as JSON."""
    results = found.results
    trials = [
        {name: value for name, value in plain(trial).items() if name != "spec"}
        for trial in results.trials
    ]
    print_json(
        {
            "out": str(found.out),
            "page": str(found.page),
            "measured_on": results.data,
            "networks": plain(results.variants()),
            "trials": trials,
            **({"search": plain(results.search)} if results.search else {}),
        }
    )


def show_study(found: StudyResult) -> None:
    """Print a sweep or a search as a table."""
    if found.results.search is not None:
        _show_search(found)
    else:
        _show_sweep(found)


def _show_sweep(found: StudyResult) -> None:
    results = found.results
    paper = dict(results.paper)
    columns = _COLUMNS if paper else _COLUMNS[:-1]
    rows = [
        [
            row.label,
            str(row.top1),
            f"{row.top5.mean:.2f}" if results.has_top5 else "",
            str(row.top1.count),
            f"{row.measures.weight_bytes / 1e6:.2f}",
            f"{row.measures.macs:,}",
            *([str(paper.get(row.label, ""))] if paper else []),
        ]
        for row in results.variants()
    ]
    print_table(f"{results.title}, on {results.data}", columns, rows)
    print_text(f"{results.count('done')} trials; {found.page}")


def _show_search(found: StudyResult) -> None:
    results = found.results
    searched = results.search
    assert searched is not None
    rows = [
        [
            trial.name,
            f"{m.top1:.2f}",
            f"{m.file_bytes or 0:,}",
            f"{m.parameters:,}",
            f"{m.macs:,}",
            f"{m.arena_bytes or 0:,}",
        ]
        for trial in results.front_trials()
        if (m := trial.measures) is not None
    ]
    print_table(
        f"front of {results.count('done')} networks, on {results.data}", _SEARCH_COLUMNS, rows
    )
    for finalist in searched.finalists:
        print_text(
            f"{finalist.name} compressed: {finalist.file_bytes:,} bytes (estimated "
            f"{finalist.estimated_bytes:,}), top-1 {finalist.top1:.2f}% in integers"
        )
    if searched.best is None:
        print_text("no network is within the budgets; more --trials may find one")
    else:
        print_text(f"best within the budgets: {searched.best}; to train it in full:")
        print_text(searched.train_best)
    print_text(str(found.page))


def print_compression_table_json(found: CompressionTableResult) -> None:
    """Print the paper's table 2 as JSON."""
    results = found.results
    print_json(
        {
            "out": str(found.out),
            "page": str(found.page),
            "measured_on": results.data,
            "rows": [
                plain(row) | {"reduction": plain(results.reduction(row))} for row in results.rows
            ],
        }
    )


def show_compression_table(found: CompressionTableResult) -> None:
    """Print the paper's table 2."""
    results = found.results
    rows = [
        [
            row.network,
            row.approach_text,
            results.megabytes_text(row),
            f"{row.bytes:,}",
            results.reduction_text(row),
            f"{row.top1:.2f}",
            row.difference_text,
            str(row.paper or ""),
        ]
        for row in results.rows
    ]
    print_table(f"table 2, on {results.data}", _TABLE_COLUMNS, rows)
    print_text(str(found.page))
