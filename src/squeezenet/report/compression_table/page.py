"""The table as one HTML page, with a chart."""

from __future__ import annotations

from squeezenet.report.charts import Series, chart, span
from squeezenet.report.compression_table.results import MEGABYTE, CompressionTable, TableRow
from squeezenet.report.document import document
from squeezenet.report.markup import code, facts, figure, section, table, text
from squeezenet.report.sorting import SORT_SCRIPT, SORTABLE

Section = tuple[str, str, str]


def table_page(results: CompressionTable) -> str:
    """Return the page."""
    return document(
        title=f"{results.name}: table 2",
        heading="Compressed networks: table 2 of the paper",
        about=f"{len(results.rows)} networks, measured on {results.data}",
        sections=[_table(results), _chart(results), _settings(results)],
        script=SORT_SCRIPT,
    )


def _table(results: CompressionTable) -> Section:
    top5 = ["top-5, %"] if results.has_top5 else []
    rows = [
        [
            text(row.network),
            text(row.approach_text),
            f"{row.bytes / MEGABYTE:.3g}",
            f"{row.bytes:,}",
            results.reduction_text(row),
            f"{row.top1:.2f}",
            row.difference_text,
            *([f"{row.top5:.2f}"] if top5 else []),
            text(row.paper or ""),
        ]
        for row in results.rows
    ]
    head = [
        "network", "approach", "MB", "bytes", "reduction", "top-1, %", "Δ top-1", *top5,
        "paper, ImageNet: top-1/top-5",
    ]  # fmt: skip
    note = (
        "<p>MB are millions of bytes: of float32 weights and biases, with gaps of 4 bits between "
        "the weights of a pruned network; with Deep Compression and rd, of the file. Reduction: "
        "how many times smaller than AlexNet. ± is one standard error of the difference, paired "
        "by image, to the same network without compression.</p>"
    )
    return section("table", "Table", table("Table 2", head, rows, num_text=2, kind=SORTABLE), note)


def _chart(results: CompressionTable) -> Section:
    series = []
    for network, style in zip(
        dict.fromkeys(row.network for row in results.rows), ("c2", "c1"), strict=False
    ):
        rows = [row for row in results.rows if row.network == network]
        series.append(
            Series(
                points=[(row.bytes / MEGABYTE, row.top1) for row in rows],
                style=style,
                line=False,
                dots=True,
                labels=[_described(row) for row in rows],
            )
        )
    sizes = [row.bytes / MEGABYTE for row in results.rows]
    drawn = chart(
        "top-1 against megabytes: " + "; ".join(map(_described, results.rows)),
        span("MB", sizes, log=True),
        span("top-1, %", [row.top1 for row in results.rows]),
        series=series,
    )
    caption = "Top-1 against megabytes: AlexNet in orange, SqueezeNet in blue."
    return section("chart", "Chart", f'<div class="charts">{figure(drawn, caption)}</div>')


def _described(row: TableRow) -> str:
    return f"{row.network}, {row.approach_text}: {row.bytes:,} bytes, {row.top1:.2f}%"


def _settings(results: CompressionTable) -> Section:
    pairs = [(name, text(value)) for name, value in results.settings]
    return section("settings", "Settings", facts(pairs), f"<p>Made by</p>{code(results.command)}")
