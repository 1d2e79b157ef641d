"""Draw the figures: training curves, confusion matrix, worst mistakes.

Without pyplot, which has global state. Colours are of the Okabe-Ito palette and of viridis, which
colour-blind readers can distinguish.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from squeezenet.images.bad import with_notes
from squeezenet.images.decode import Pixels
from squeezenet.images.sets import ImageSet, Labels
from squeezenet.report.mistakes import Confusions, Mistake

_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_MAX_NAMED_CLASSES = 40
"""With more classes their names overlap."""
_MAX_NUMBERED_CLASSES = 25
"""With more classes the numbers in the cells overlap."""
_MAX_DRAWN_CLASSES = 2000
"""With more classes a cell of the matrix is smaller than a dot on paper."""
_MAX_PICTURE = 256
"""Pictures of mistakes are subsampled to at most about twice as many pixels per side."""


def training_curves(metrics: Sequence[dict[str, Any]], title: str) -> Figure:
    """Draw loss, learning rate and accuracy over epochs, from the lines of ``metrics.jsonl``."""
    train = [line for line in metrics if line["kind"] == "train"]
    val = [line for line in metrics if line["kind"] == "val"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(title)
    epochs = np.array([line["epoch"] for line in train])
    losses = np.array([line["loss"] for line in train])
    left.plot(epochs, losses, color=_BLUE, alpha=0.25, linewidth=1)
    left.plot(epochs, smooth(losses), color=_BLUE, marker="o" if len(losses) == 1 else "")
    left.set(xlabel="epoch", ylabel="training loss")
    learning_rate = left.twinx()
    learning_rate.plot(epochs, [line["learning_rate"] for line in train], color=_ORANGE)
    learning_rate.set_ylabel("learning rate", color=_ORANGE)
    learning_rate.set_ylim(bottom=0)
    top1 = [line["top1"] for line in val]
    _plot(right, [line["epoch"] for line in val], top1, _GREEN, "top-1")
    if any(line["top5"] < 100 for line in val):
        _plot(right, [line["epoch"] for line in val], [v["top5"] for v in val], _BLUE, "top-5")
    if top1:
        best = len(top1) - 1 - int(np.argmax(top1[::-1]))
        right.annotate(
            f"best {top1[best]:.1f}%",
            (val[best]["epoch"], top1[best]),
            xytext=(0, -28),
            textcoords="offset points",
            ha="right",
            arrowprops={"arrowstyle": "->", "color": "0.4"},
        )
        right.legend(loc="lower right", frameon=False)
    right.set(xlabel="epoch", ylabel="validation accuracy, %")
    right.set_ylim(top=min(101, right.get_ylim()[1]))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _plot(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, label: str) -> None:
    axes.plot(x, y, color=colour, marker="o", markersize=3, label=label)


def smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a moving average over 1/25 of the values, with the window clipped at the ends."""
    half = max(1, len(values) // 50)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    smoothed: npt.NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smoothed


def confusion_figure(counted: Confusions, class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix in percent of each row.

    Class names and counts are left out where they would overlap. Of very many classes those with
    the most mistakes are drawn.
    """
    classes = _drawn_classes(counted)
    if len(classes) < counted.num_classes:
        title += f"\nthe {len(classes)} of {counted.num_classes:,} classes with most mistakes"
    matrix, num_classes = counted.matrix(classes), len(classes)
    totals = np.maximum(counted.images_K[classes, None], 1)
    percent = 100 * matrix / totals
    side = min(11.0, 3.2 + 0.42 * min(num_classes, _MAX_NUMBERED_CLASSES))
    figure = Figure(figsize=(max(side + 0.8, 6.0), side), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the class's images")
    axes.set(xlabel="predicted class", ylabel="class")
    if named := named_classes(counted):
        names = [_short(class_names[k]) for k in named]
        axes.set_xticks(range(num_classes), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(num_classes), names)
    if num_classes <= _MAX_NUMBERED_CLASSES:
        _number_cells(axes, matrix, percent)
    return figure


def named_classes(counted: Confusions) -> list[int]:
    """Return the classes whose names are in the drawing of a confusion matrix."""
    classes = _drawn_classes(counted)
    return classes.tolist() if len(classes) <= _MAX_NAMED_CLASSES else []


def _drawn_classes(counted: Confusions) -> Labels:
    if counted.num_classes > _MAX_DRAWN_CLASSES:
        return counted.most_mistaken(_MAX_NAMED_CLASSES)
    return np.arange(counted.num_classes)


def _number_cells(axes: Axes, matrix: Labels, percent: npt.NDArray[np.float64]) -> None:
    for row, column in np.argwhere(matrix):
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if percent[row, column] < 60 else "black",
        )


def mistakes_figure(
    mistakes: Sequence[Mistake], images: ImageSet, class_names: Sequence[str], title: str
) -> Figure:
    """Draw images with the wrong prediction, its probability, and the true class."""
    columns = min(6, max(3, len(mistakes)))  # three leave room for the title
    rows = max(1, -(-len(mistakes) // columns))
    figure = Figure(figsize=(2.0 * columns, 2.35 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    grid = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
    for axes in grid.flat:
        axes.axis("off")
    for axes, mistake in zip(grid.flat, mistakes, strict=False):
        pixels_HWC, _ = with_notes(partial(images.pixels, mistake.index))
        axes.imshow(_square(pixels_HWC), interpolation="nearest")
        axes.set_title(
            f"{_short(class_names[mistake.predicted])} {100 * mistake.probability:.0f}%\n"
            f"is {_short(class_names[mistake.label])}",
            fontsize=8,
        )
    if not mistakes:
        grid[0, 0].text(0, 0.5, "no mistakes")
    return figure


def _square(pixels_HWC: Pixels) -> Pixels:
    """Return the central square, subsampled; a copy, so that the photograph can be freed."""
    height, width = pixels_HWC.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    stride = max(1, side // _MAX_PICTURE)
    square: Pixels = pixels_HWC[top : top + side : stride, left : left + side : stride].copy()
    return square


def _short(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
