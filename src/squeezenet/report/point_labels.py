"""Labels beside the points of a plot, where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_DISTANCE = 7
"""From a point to its label, in points."""
_PLACES = (
    (0, 1, "center", "bottom"),
    (0, -1, "center", "top"),
    (1, 0, "left", "center"),
    (-1, 0, "right", "center"),
    (1, 1, "left", "bottom"),
    (-1, -1, "right", "top"),
    (1, -1, "left", "top"),
    (-1, 1, "right", "bottom"),
)
"""Direction from the point, horizontal and vertical alignment; the best first."""


def label_points(
    axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], colours: Sequence[str]
) -> None:
    """Write a label beside each (x, y), in data units, once all else is on the axes.

    Each gets the first place around its point where it lies inside the axes and covers no point and
    no other label; if there is none, the place where it covers least.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout moves the axes
    pixels = figure.dpi / 72
    dots = [
        Bbox.from_extents(x - 4 * pixels, y - 4 * pixels, x + 4 * pixels, y + 4 * pixels)
        for x, y in axes.transData.transform(points)
    ]
    taken = list(dots)
    legend = axes.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    for (x, y), label, colour in zip(points, labels, colours, strict=True):
        tried = []
        for right, up, horizontal, vertical in _PLACES:
            text = axes.annotate(
                label,
                (x, y),
                xytext=(right * _DISTANCE, up * _DISTANCE),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=8,
                color=colour,
            )
            box = text.get_window_extent()
            covered = sum(_area(Bbox.intersection(box, other)) for other in taken)
            outside = _area(box) - _area(Bbox.intersection(box, axes.bbox))
            tried.append((covered + outside, text, box))
            if covered + outside == 0:
                break
        _, kept, box = min(tried, key=lambda each: each[0])
        for _, text, _ in tried:
            if text is not kept:
                text.remove()
        taken.append(box)


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else float(box.width * box.height)
