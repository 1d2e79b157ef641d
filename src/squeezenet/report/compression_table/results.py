"""What the report of the paper's table 2 shows: a row per network and approach."""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.report.study.results import PaperFigure

MEGABYTE = 1_000_000
_WHOLE_FROM = 10
"""From here on, reductions are shown as whole numbers."""
PAGE = "table.html"
"""The page of the report."""


@dataclass(frozen=True, kw_only=True)
class Approach:
    """A network, as it is or compressed: a row that is to be made.

    ``name`` is part of file names. ``base``: the row of the network that is compressed, None for
    that network itself. ``data_type``: of a weight, in words. ``paper``: what the paper has, on
    ImageNet.
    """

    name: str
    network: str
    approach: str
    data_type: str
    base: str | None = None
    paper: PaperFigure | None = None

    @property
    def approach_text(self) -> str:
        """The approach with its data type, for tables and plots."""
        return self.approach if self.base is None else f"{self.approach}, {self.data_type}"


@dataclass(frozen=True, kw_only=True)
class TableRow(Approach):
    """An approach that was measured.

    ``bytes``: what the weights take (``size_of`` says how they are stored). ``top1`` and ``top5``
    are percent of ``images`` images; ``difference`` is the top-1 less that of the base in points,
    with the standard error of the differences paired by image.
    """

    bytes: int
    size_of: str
    top1: float
    top5: float
    images: int
    difference: float | None = None
    difference_error: float | None = None

    @property
    def difference_text(self) -> str:
        """The difference with its error; empty for a base."""
        if self.difference is None or self.difference_error is None:
            return ""
        return f"{self.difference:+.2f} ± {self.difference_error:.2f}"


@dataclass(frozen=True, kw_only=True)
class CompressionTable:
    """The table; its first row is the network that the others are compared with in size.

    ``data`` says in words what accuracy was measured on. ``settings`` are pairs of a name and a
    value for the reader, ``command`` makes the table again.
    """

    name: str
    data: str
    settings: tuple[tuple[str, str], ...]
    command: str
    rows: tuple[TableRow, ...]

    def original_bytes(self, row: TableRow) -> int:
        """Return the size of the network that a row compresses."""
        return next((r.bytes for r in self.rows if r.name == row.base), row.bytes)

    def megabytes_text(self, row: TableRow) -> str:
        """Return the size in megabytes as the paper has it: before and after."""
        after = f"{row.bytes / MEGABYTE:.3g}"
        if row.base is None:
            return after
        return f"{self.original_bytes(row) / MEGABYTE:.3g} → {after}"

    def reduction(self, row: TableRow) -> float:
        """Return how many times smaller than the first row a row is."""
        return self.rows[0].bytes / row.bytes

    def reduction_text(self, row: TableRow) -> str:
        """Return the reduction for a table: 1.4x, 510x."""
        value = self.reduction(row)
        return f"{value:.1f}x" if value < _WHOLE_FROM else f"{value:,.0f}x"

    @property
    def has_top5(self) -> bool:
        """Whether top-5 says anything: with five classes or fewer it is always 100%."""
        return any(row.top5 < 100 for row in self.rows)
