"""Section of a report's page: whether probabilities mean what they say."""

from __future__ import annotations

from squeezenet.evaluation.calibration import recorded_temperature, reliability
from squeezenet.report.card import Measured
from squeezenet.report.charts import Axis, Bar, Series, chart, span
from squeezenet.report.front_matter import measured_value
from squeezenet.report.markup import details, figure, section, table


def calibration_section(measured: Measured) -> tuple[str, str, str]:
    """Draw the reliability diagram, and say what a temperature has changed."""
    found = reliability(measured.predicted)
    num_bins = len(found.counts_B)
    edges = [i / num_bins for i in range(num_bins + 1)]
    filled = [i for i in range(num_bins) if found.counts_B[i]]
    bars, counted, rows = [], [], []
    for i in filled:
        count, right, said = found.counts_B[i], found.accuracy_B[i], found.confidence_B[i]
        about = f"{100 * edges[i]:.0f} to {100 * edges[i + 1]:.0f}%"
        shares = f"{100 * right:.1f}% right, mean probability {100 * said:.1f}%"
        label = f"{about}: {count:,} images, {shares}"
        bars.append(Bar(left=edges[i], right=edges[i + 1], height=float(right), label=label))
        counted.append(Bar(left=edges[i], right=edges[i + 1], height=float(count), label=label))
        rows.append([about, f"{count:,}", f"{100 * said:.1f}%", f"{100 * right:.1f}%"])
    x = Axis(title="probability of the prediction", low=0, high=1)
    ideal = Series(points=[(0, 0), (1, 1)], style="ideal")
    said_line = Series(
        points=[(float(found.confidence_B[i]), float(found.accuracy_B[i])) for i in filled],
        style="c2", line=False, dots=True, labels=[bar.label for bar in bars],
    )  # fmt: skip
    y = Axis(title="share that is right", low=0, high=1)
    counts = span("images", [bar.height for bar in counted], zero=True)
    title = f"Bins of probability, {num_bins} of equal width"
    return section(
        "calibration",
        "Calibration",
        f"<p>The expected calibration error is {found.error:.2f} percentage points: so far apart "
        "are the probability of a prediction and the share of such predictions that is right, on "
        "average over the images.</p>",
        _temperature(measured),
        '<div class="charts">',
        figure(
            chart("Share that is right by probability", x, y, series=[ideal, said_line], bars=bars),
            "Reliability diagram: bars are the share that is right, dots are at the mean "
            "probability of a bin. Bars on the dashed line are calibrated; below it, predictions "
            "are overconfident.",
        ),
        figure(
            chart("Images by probability", x, counts, bars=counted),
            "How many images have a prediction of such a probability.",
        ),
        "</div>",
        details(title, table(title, ["probability", "images", "mean", "right"], rows)),
    )


def _temperature(measured: Measured) -> str:
    """What the file's record says of a temperature that was folded in."""
    temperature = recorded_temperature(measured.record)
    before, after = (measured_value(measured.record, key) for key in ("ece_before", "ece"))
    said = ""
    if temperature != 1:
        said = (
            f"All logits of the file are divided by a temperature of {temperature:.4f}, which was "
            "fitted on labelled images and changes no prediction. "
        )
    if before is not None and after is not None:
        said += (
            f"On the images that compression measured with, the expected calibration error was "
            f"{before:.2f} points before compression and {after:.2f} after."
        )
    return f"<p>{said}</p>" if said else ""
