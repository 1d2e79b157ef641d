"""The table as one HTML page, with a chart."""

from __future__ import annotations

from squeezenet.report.charts import Series, chart, span
from squeezenet.report.compression_table.results import CompressionTable, TableRow
from squeezenet.report.document import document
from squeezenet.report.markup import code, facts, figure, section, table, text
from squeezenet.report.sorting import SORT_SCRIPT, SORTABLE

Section = tuple[str, str, str]
_MEGABYTE = 1_000_000


def table_page(results: CompressionTable) -> str:
    """Return the page."""
    return document(
        title=f"{results.name}: table 2",
        heading="Compressed networks: table 2 of the paper",
        about=f"{len(results.rows)} networks, measured on {results.data}",
        sections=[_table(results), _chart(results), _settings(results)],
        script=SORT_SCRIPT,
    )


def sizes_text(results: CompressionTable, row: TableRow) -> str:
    """Return the size in megabytes, as the paper has it: before and after."""
    after = f"{row.bytes / _MEGABYTE:.3g}"
    if row.base is None:
        return after
    return f"{results.original_bytes(row) / _MEGABYTE:.3g} → {after}"


def _table(results: CompressionTable) -> Section:
    top5 = ["top-5, %"] if results.has_top5 else []
    rows = [
        [
            text(row.network),
            text(row.approach),
            text(row.data_type),
            text(row.size_of),
            sizes_text(results, row),
            f"{row.bytes:,}",
            f"{results.reduction(row):,.0f}x",
            f"{row.top1:.2f}",
            row.difference_text,
            *([f"{row.top5:.2f}"] if top5 else []),
            text(row.paper or ""),
        ]
        for row in results.rows
    ]
    head = [
        "network", "approach", "data type", "what is counted", "MB", "bytes",
        "smaller than AlexNet", "top-1, %", "to its original", *top5,
        "paper, ImageNet: top-1/top-5",
    ]  # fmt: skip
    note = (
        "<p>MB are millions of bytes. ± is one standard error of the difference, paired by image."
        "</p>"
    )
    return section("table", "Table", table("Table 2", head, rows, num_text=4, kind=SORTABLE), note)


def _chart(results: CompressionTable) -> Section:
    series = []
    for network, style in zip(
        dict.fromkeys(row.network for row in results.rows), ("c2", "c1"), strict=False
    ):
        rows = [row for row in results.rows if row.network == network]
        series.append(
            Series(
                points=[(row.bytes / _MEGABYTE, row.top1) for row in rows],
                style=style,
                line=False,
                dots=True,
                labels=[f"{row.label}: {row.bytes:,} bytes, {row.top1:.2f}%" for row in rows],
            )
        )
    sizes = [row.bytes / _MEGABYTE for row in results.rows]
    drawn = chart(
        "top-1 against megabytes: "
        + "; ".join(f"{row.label} {row.bytes:,} bytes {row.top1:.2f}%" for row in results.rows),
        span("MB", sizes, log=True),
        span("top-1, %", [row.top1 for row in results.rows]),
        series=series,
    )
    caption = "Top-1 against megabytes: AlexNet in orange, SqueezeNet in blue."
    return section("chart", "Chart", f'<div class="charts">{figure(drawn, caption)}</div>')


def _settings(results: CompressionTable) -> Section:
    pairs = [(name, text(value)) for name, value in results.settings]
    return section("settings", "Settings", facts(pairs), f"<p>Made by</p>{code(results.command)}")
