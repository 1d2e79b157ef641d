"""Write the report of the table: one page, a figure as PNG and SVG, and the rows as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

from matplotlib.figure import Figure

from squeezenet.output_folder import OutputFolder
from squeezenet.report.compression_table.page import table_page
from squeezenet.report.compression_table.results import (
    MEGABYTE,
    PAGE,
    CompressionTable,
    TableRow,
)
from squeezenet.report.csv_cells import csv_text
from squeezenet.report.point_labels import label_points
from squeezenet.report.render import FIGURE_SUFFIXES, rendered, reproducible_figures, use_log_x

_COLOURS = ("#D55E00", "#0072B2")


def write_table(folder: Path, results: CompressionTable) -> Path:
    """Write the report into ``folder``; return the path of its page.

    Raises:
        UsageError, CheckpointError: see ``OutputFolder.write``.
    """
    files: dict[str, bytes] = {}
    with reproducible_figures():
        figure = _figure(results)
        for suffix in FIGURE_SUFFIXES:
            files[f"sizes{suffix}"] = rendered(figure, suffix[1:])
    files["table.csv"] = _csv(results).encode()
    files[PAGE] = table_page(results).encode()
    return OutputFolder(folder, is_ours=True).write(files)[-1]


def _csv(results: CompressionTable) -> str:
    names = [field.name for field in dataclasses.fields(TableRow) if field.name != "paper"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*names, "reduction", "paper"])
    for row in results.rows:
        values = [getattr(row, name) for name in names]
        cells = [*values, f"{results.reduction(row):.6g}", row.paper or ""]
        writer.writerow(
            ["" if c is None else csv_text(str(c)) if isinstance(c, str) else c for c in cells]
        )
    return file.getvalue()


def _figure(results: CompressionTable) -> Figure:
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    networks = list(dict.fromkeys(row.network for row in results.rows))
    colour_of = dict(zip(networks, _COLOURS, strict=False))
    for network, colour in colour_of.items():
        rows = [row for row in results.rows if row.network == network]
        sizes = [row.bytes / MEGABYTE for row in rows]
        axes.plot(sizes, [row.top1 for row in rows], "o", color=colour, label=network)
    use_log_x(axes)
    axes.set_xlabel("MB")
    axes.set_ylabel("top-1 accuracy, %")
    axes.set_title(f"table 2: top-1 on {results.data}", fontsize=10)
    axes.margins(x=0.1, y=0.15)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    label_points(
        axes,
        [(row.bytes / MEGABYTE, row.top1) for row in results.rows],
        [row.approach_text for row in results.rows],
        [colour_of[row.network] for row in results.rows],
    )
    return figure
