"""Charts as inline SVG that follows the page's theme: colours are classes of the style sheet.

Coordinates of a chart are about the pixels of a phone, so that its text is as large as the page's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from squeezenet.report.markup import attribute, text

WIDTH, HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 36
_NUM_TICKS = 5
_MIN_LOG_TICKS = 3
"""With fewer round numbers a logarithmic axis has evenly spaced ones."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points (x, y) to draw, in order.

    ``style``: a class of the style sheet, such as "c1". ``line`` connects them, ``dots`` marks
    each; ``labels``, one per point, are shown when one points at a mark. ``texts`` stand beside
    the points, ``errors`` are drawn above and below them. ``radius``: of the dots.
    """

    points: Sequence[tuple[float, float]]
    style: str
    line: bool = True
    dots: bool = False
    labels: Sequence[str] = ()
    texts: Sequence[str] = ()
    errors: Sequence[float] = ()
    radius: float = 3


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar from ``left`` to ``right`` on the x axis, as high as ``height``, with a label."""

    left: float
    right: float
    height: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis from ``low`` to ``high``; ``log`` for a logarithmic one, of positive numbers."""

    title: str
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value is between the ends: 0 to 1."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Round numbers within the axis."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for steps in ((1,), (1, 3), (1, 2, 5)):
                found = [m * 10.0**e for e in range(first, last + 1) for m in steps]
                inside = [value for value in found if self.low <= value <= self.high]
                if len(inside) >= _MIN_LOG_TICKS:
                    return inside
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / _NUM_TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def span(title: str, values: Sequence[float], *, zero: bool = False, log: bool = False) -> Axis:
    """Return an axis that holds all values, and 0 if ``zero``; a little longer than they are."""
    low, high = min(values), max(values)
    if log:
        return Axis(title=title, low=low / 1.1, high=high * 1.1, log=True)
    margin = 0.05 * (high - low) or 0.5
    return Axis(title=title, low=0.0 if zero else low - margin, high=high + margin)


def chart(
    name: str,
    x: Axis,
    y: Axis,
    *,
    series: Sequence[Series] = (),
    bars: Sequence[Bar] = (),
    height: int = HEIGHT,
) -> str:
    """Return a chart; ``name`` says what it shows to those who cannot see it."""
    inner_height = height - _TOP - _BOTTOM
    inner_width = WIDTH - _LEFT - _RIGHT

    def place_x(value: float) -> float:
        return _LEFT + inner_width * x.share(value)

    def place_y(value: float) -> float:
        return _TOP + inner_height * (1 - y.share(value))

    base = place_y(y.low)
    parts = [_grid(x, y, place_x, place_y, height)]
    for bar in bars:
        left, right, top = place_x(bar.left), place_x(bar.right), place_y(bar.height)
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{base - top:.1f}"><title>{text(bar.label)}</title></rect>'
        )
    for each in series:
        places = [(place_x(a), place_y(b)) for a, b in each.points]
        if each.line and len(places) > 1:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(f'<polyline class="line {each.style}" points="{path}"/>')
        for (x_value, y_value), error in zip(each.points, each.errors, strict=False):
            at, top, end = place_x(x_value), place_y(y_value + error), place_y(y_value - error)
            parts.append(
                f'<path class="line {each.style}" d="M{at - 3:.1f},{top:.1f}h6M{at:.1f},{top:.1f}'
                f'V{end:.1f}M{at - 3:.1f},{end:.1f}h6"/>'
            )
        parts += [
            f'<text x="{a + 6:.1f}" y="{b - 6:.1f}">{text(words)}</text>'
            for (a, b), words in zip(places, each.texts, strict=False)
        ]
        if each.dots or len(places) == 1:
            labels = list(each.labels) or [""] * len(places)
            parts += [
                f'<circle class="dot {each.style}" cx="{a:.1f}" cy="{b:.1f}" r="{each.radius:g}">'
                f"<title>{text(label)}</title></circle>"
                for (a, b), label in zip(places, labels, strict=True)
            ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label={attribute(name)}>'
        f"{''.join(parts)}</svg>"
    )


def _grid(
    x: Axis,
    y: Axis,
    place_x: Callable[[float], float],
    place_y: Callable[[float], float],
    height: int,
) -> str:
    """Lines and numbers of both axes, and their titles."""
    right, bottom = WIDTH - _RIGHT, height - _BOTTOM
    parts = []
    for value in y.ticks():
        at = place_y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text x="{_LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        )
    for value in x.ticks():
        at = place_x(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{_number(value)}</text>'
        )
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{height - 5}" text-anchor="middle">'
        f"{text(x.title)}</text>"
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">'
        f"{text(y.title)}</text>"
    )
    return "".join(parts)


def _number(value: float) -> str:
    """A short number: 1.5k, 20, 0.03."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.3g}"
