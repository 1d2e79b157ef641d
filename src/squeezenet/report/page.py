"""The report as one HTML page that needs nothing else: no network, no script, no other file.

Readable on a phone, on paper, and in both themes. All numbers are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.evaluation.metrics import score
from squeezenet.images.sets import ImageSet
from squeezenet.report.card import Measured
from squeezenet.report.document import document
from squeezenet.report.markup import facts, section
from squeezenet.report.mistakes import wilson_interval
from squeezenet.report.page_calibration import calibration_section
from squeezenet.report.page_confusions import confusion_section, mistakes_section
from squeezenet.report.page_layers import layers_section, rate_distortion_section
from squeezenet.report.page_training import provenance_section, training_section


def html_page(measured: Measured, images: ImageSet, metrics: Sequence[dict[str, Any]]) -> str:
    """Return the page. ``images`` is the set of the predictions, ``metrics`` are lines of
    ``metrics.jsonl``."""
    record = measured.record
    sections = [
        _summary(measured),
        *([training_section(metrics)] if metrics else []),
        confusion_section(measured, images),
        mistakes_section(measured, images),
        calibration_section(measured),
        layers_section(measured),
        *([rate_distortion_section(measured)] if measured.history else []),
        provenance_section(measured),
    ]
    return document(
        title=f"{record.spec.name}: report",
        heading=record.spec.name,
        about=f"{len(record.class_names):,} classes, {measured.file_bytes:,} bytes, "
        f"measured on {len(measured.predicted.labels):,} images {measured.data}",
        sections=sections,
    )


def _summary(measured: Measured) -> tuple[str, str, str]:
    record, result = measured.record, score(measured.predicted)
    graph = build_graph(record.spec)
    counts = count(graph)
    low, high = wilson_interval(result.top1, result.images)
    rows = [("top-1", f"{result.top1:.2f}%"), ("its 95% interval", f"{low:.1f} to {high:.1f}%")]
    if len(record.class_names) > 5:
        rows.append(("top-5", f"{result.top5:.2f}%"))
    rows += [
        ("images", f"{result.images:,}"),
        ("bytes of the file", f"{measured.file_bytes:,}"),
        ("parameters", f"{counts.parameters:,}"),
        ("multiply-accumulates per image", f"{counts.macs:,}"),
        ("peak activations, int8", f"{peak_activation_bytes(graph):,} bytes"),
    ]
    if measured.layers:
        times = counts.weight_bytes / measured.file_bytes
        rows.insert(-3, ("smaller than float32 weights", f"{times:.1f} times"))
    if result.skipped:
        rows.append(("images that could not be read", f"{result.skipped:,}"))
    notes = ""
    if measured.chose_weights:
        notes = (
            "<p>The weights are those of the epoch that did best on these same images, so the "
            "figures are slightly optimistic.</p>"
        )
    return section("summary", "Summary", facts(rows), notes)
