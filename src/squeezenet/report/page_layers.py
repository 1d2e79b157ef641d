"""Sections of a report's page: what each layer costs, and bytes against divergence."""

from __future__ import annotations

from collections.abc import Sequence

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import live_activation_bytes
from squeezenet.report.card import Measured
from squeezenet.report.charts import HEIGHT, Axis, Bar, Series, chart, span
from squeezenet.report.history import Trained
from squeezenet.report.markup import details, figure, section, table, text


def layers_section(measured: Measured) -> tuple[str, str, str]:
    """Draw activation memory over time; list parameters, work and bytes of every layer."""
    graph = build_graph(measured.record.spec)
    counts, live = count(graph), live_activation_bytes(graph)
    stored = {row.layer: row for row in measured.layers}
    head = ["layer", "kind", "output", "parameters", "MACs"]
    if stored:
        head += ["density, %", "bits per weight", "bytes"]
    head.append("memory, bytes")
    rows, bars = [], []
    for i, (layer, alive) in enumerate(zip(counts.layers, live, strict=True)):
        shape = "x".join(map(str, layer.output_shape))
        row = [text(layer.name), layer.kind, shape]
        row += [f"{layer.parameters:,}", f"{layer.macs:,}"] if layer.parameters else ["-", "-"]
        if stored:
            own = stored.get(layer.name)
            row += (
                [f"{own.density:.1f}", f"{own.bits_per_weight:.2f}", f"{own.bytes:,}"]
                if own
                else ["-", "-", "-"]
            )
        rows.append([*row, f"{alive:,}"])
        label = f"{layer.name}: {alive:,} bytes"
        bars.append(Bar(left=i + 0.5, right=i + 1.5, height=float(alive), label=label))
    peak = max(live)
    footer = ["all", "", "", f"{counts.parameters:,}", f"{counts.macs:,}"]
    if stored:
        weights = sum(row.weights for row in measured.layers)
        kept = sum(row.kept for row in measured.layers)
        size = sum(row.bytes for row in measured.layers)
        footer += [f"{100 * kept / weights:.1f}", f"{8 * size / max(1, kept):.2f}", f"{size:,}"]
    footer.append(f"peak {peak:,}")
    said = (
        "Bits are per weight that is not zero; bytes include biases and scales, and the file has "
        f"{measured.file_bytes:,} with its record, class names and checksums. "
        if stored
        else ""
    )
    x = Axis(title="operation, in order", low=0.5, high=len(live) + 0.5)
    return section(
        "layers",
        "Layers",
        figure(
            chart(
                "Activation memory during each operation",
                x,
                span("bytes, int8", [float(peak)], zero=True),
                bars=bars,
            ),
            f"Memory of all tensors alive during each operation, one byte per value: at most "
            f"{peak:,} bytes, in {counts.layers[live.index(peak)].name}.",
        ),
        table("Per layer and image", head, rows, num_text=3, footer=footer),
        f"<p>{said}Memory is what all tensors alive at that time take, one byte per value.</p>",
    )


def _training(points: Sequence[Trained]) -> list[str]:
    """Draw divergence and bytes over the time of training."""
    minutes = [each.seconds / 60 for each in points]
    x = span("minutes of training", minutes, zero=True)
    divergences = [each.divergence for each in points]
    sizes = [float(each.bytes) for each in points]
    labels = [
        f"{minute:.0f} min: {each.divergence:.4f} nats, {each.bytes:,} bytes"
        for minute, each in zip(minutes, points, strict=True)
    ]
    drawn = [
        chart(
            title,
            x,
            span(unit, values),
            series=[
                Series(
                    points=list(zip(minutes, values, strict=True)),
                    style="c1",
                    dots=True,
                    labels=labels,
                )
            ],
            height=height,
        )
        for title, unit, values, height in (
            ("Divergence by minutes of training", "KL, nats", divergences, HEIGHT),
            ("Bytes of the file by minutes of training", "bytes", sizes, 150),
        )
    ]
    title = f"Training of the levels, {len(points)} epochs"
    rows = [
        [f"{minute:.1f}", f"{each.bytes:,}", f"{each.divergence:.4f}"]
        for minute, each in zip(minutes, points, strict=True)
    ]
    return [
        figure(drawn[0], "KL divergence from the original while the levels are trained."),
        figure(drawn[1], "Bytes of the file while the levels are trained."),
        details(title, table(title, ["minutes", "bytes", "KL, nats"], rows)),
    ]


def rate_distortion_section(measured: Measured) -> tuple[str, str, str]:
    """Draw what the compression tried and wrote: bytes against divergence from the original."""
    history = measured.history
    assert history is not None
    parts = []
    tried = sorted((each.bytes, each.divergence) for each in history.search if each.divergence)
    if tried:
        x = span("bytes of the file", [float(b) for b, _ in tried], log=True)
        y = span("predicted KL, nats", [d for _, d in tried], log=True)
        labels = [f"{b:,} bytes: {d:.4f} nats" for b, d in tried]
        series = Series(points=tried, style="c1", dots=True, labels=labels)
        drawn = chart("Predicted divergence by bytes of the file", x, y, series=[series])
        title = f"What the search tried, {len(tried)} networks"
        rows = [[f"{b:,}", f"{d:.4f}"] for b, d in tried]
        parts += [
            figure(
                drawn,
                "KL divergence from the original as the quadratic model predicts it, both axes "
                "logarithmic. What is measured is usually a third to a half of it.",
            ),
            details(title, table(title, ["bytes", "predicted KL, nats"], rows)),
        ]
    if history.training:
        parts += _training(history.training)
    stages = [
        [
            text(stage.name),
            f"{stage.bytes:,}",
            "-" if stage.top1 is None else f"{stage.top1:.2f}%",
            "-" if stage.top5 is None else f"{stage.top5:.2f}%",
        ]
        for stage in history.stages
    ]
    return section(
        "rate-distortion",
        "Rate and distortion",
        *parts,
        table("Stages of the compression", ["stage", "bytes", "top-1", "top-5"], stages),
        f"<p>Measured on {history.images:,} images: {history.agreement:.2f}% of predictions are "
        f"those of the original, at a KL divergence of {history.kl:.4f} nats.</p>",
    )
