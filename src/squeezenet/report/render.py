"""Matplotlib's figures as bytes: equal figures give equal bytes, with equal fonts."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

FIGURE_SUFFIXES = (".png", ".svg")
_DPI = 120


@contextmanager
def reproducible_figures() -> Iterator[None]:
    """Let figures be drawn alike, whatever the user's own style is."""
    with rc_context():
        rcdefaults()
        rcParams["svg.hashsalt"] = "squeezenet"
        rcParams["svg.fonttype"] = "none"
        rcParams["text.parse_math"] = False  # names may have dollar signs
        yield


def use_log_x(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers: matplotlib's own labels are formulas."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def rendered(figure: Figure, kind: str) -> bytes:
    """Render a figure without date and random ids, so that equal figures give equal bytes."""
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings():
        # Names that no font has are drawn as boxes after a number; the card has them in text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata)
    return file.getvalue()
