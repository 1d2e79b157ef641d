"""The model card (arXiv 1810.03993) in Markdown; all its numbers are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.arch.record import ModelRecord
from squeezenet.evaluation.calibration import calibration_error
from squeezenet.evaluation.metrics import score
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.report.mistakes import (
    confusions,
    most_confused,
    wilson_interval,
)

_MAX_CLASSES_LISTED = 20
_MAX_CONFUSIONS = 8
"""These two keep tables on one screen."""
_MIN_IMAGES_WITHOUT_WARNING = 300
"""With fewer images the 95% interval is wider than about 10 points at accuracies near 70%."""
_ESCAPES = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A model with its predictions on a labelled set.

    ``data`` describes the images in words. ``chose_weights``: training selected its best epoch on
    these images. ``result`` is the summary of the training run, or empty if unknown.
    """

    record: ModelRecord
    predicted: LabelledLogits
    file_bytes: int
    data: str
    chose_weights: bool
    result: dict[str, Any]


def model_card(measured: Measured, pictures: Sequence[str]) -> str:
    """Return the card's text; ``pictures`` are the file names of figures in the same folder."""
    record, spec = measured.record, measured.record.spec
    graph = build_graph(spec)
    counts = count(graph)
    height, width = spec.input_size
    channels = {1: "grey", 3: "colour"}.get(spec.input_channels, f"{spec.input_channels}-channel")
    names = record.class_names
    lines = [
        f"# {_text(spec.name)}",
        "",
        f"Classifies {channels} images of {width}x{height} pixels into {len(names)} classes: "
        + ", ".join(_text(name) for name in names[:_MAX_CLASSES_LISTED])
        + (", ..." if len(names) > _MAX_CLASSES_LISTED else "")
        + ".",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {counts.parameters:,} |",
        f"| multiply-accumulates per image | {counts.macs:,} |",
        f"| bytes of the file | {measured.file_bytes:,} |",
        f"| peak bytes of activations, int8 | {peak_activation_bytes(graph):,} |",
        f"| preprocessing | {_preprocessing(record)} |",
        "",
        *_accuracy(measured),
        *_training(measured),
    ]
    for picture in pictures:
        lines += [f"![{picture.rpartition('.')[0]}]({picture})", ""]
    lines += _limits(measured)
    return "\n".join(lines)


def _accuracy(measured: Measured) -> list[str]:
    predicted, names = measured.predicted, measured.record.class_names
    result = score(predicted)
    low, high = wilson_interval(result.top1, result.images)
    lines = [
        "## Accuracy",
        "",
        f"On {result.images:,} images, {_text(measured.data)}:",
        "",
        "| | |",
        "|---|---|",
        f"| top-1 | {result.top1:.2f}% (95% interval {low:.1f} to {high:.1f}) |",
    ]
    if len(names) > 5:
        lines.append(f"| top-5 | {result.top5:.2f}% |")
    lines.append(f"| expected calibration error | {calibration_error(predicted):.1f} points |")
    if result.skipped:
        lines.append(f"| images that could not be read | {result.skipped} |")
    counted = confusions(predicted)
    totals, num_predicted, correct = counted.images_K, counted.predictions_K, counted.correct_K
    seen = np.flatnonzero(totals)
    recall = 100 * correct[seen] / totals[seen]
    order = np.argsort(recall, kind="stable")[:_MAX_CLASSES_LISTED]
    what = "Recall per class" if len(order) == len(seen) else "Classes with the lowest recall"
    lines += ["", f"{what}:", "", "| class | images | recall | precision |", "|---|--:|--:|--:|"]
    for i in order:
        k = seen[i]
        precision = f"{100 * correct[k] / num_predicted[k]:.1f}%" if num_predicted[k] else "-"
        lines.append(f"| {_text(names[k])} | {totals[k]} | {recall[i]:.1f}% | {precision} |")
    if len(seen) < len(names):
        lines += ["", f"{len(names) - len(seen)} of {len(names)} classes have no images here."]
    confused = most_confused(counted, _MAX_CONFUSIONS)
    if confused:
        lines += ["", "Confused most often:", "", "| class | predicted | images |", "|---|---|--:|"]
        for pair in confused:
            a, b = _text(names[pair.label]), _text(names[pair.predicted])
            lines.append(f"| {a} | {b} | {pair.count} of {pair.total} |")
    return [*lines, ""]


def _training(measured: Measured) -> list[str]:
    rows = {
        "train_images": "training images",
        "val_images": "validation images",
        "recipe": "recipe",
        "seed": "seed",
        "epochs": "epochs",
        "steps": "steps",
        "best_epoch": "best epoch",
        "seconds": "training time, s",
    }
    result = measured.result
    lines = [f"| {label} | {_value(result[key])} |" for key, label in rows.items() if key in result]
    provenance = measured.record.provenance
    for key in sorted(provenance):
        if isinstance(provenance[key], (str, int, float)) and key not in result:
            lines.append(f"| {_text(key.replace('_', ' '))} | {_value(provenance[key])} |")
    return ["## Training", "", "| | |", "|---|---|", *lines, ""] if lines else []


def _limits(measured: Measured) -> list[str]:
    num_images = len(measured.predicted.labels)
    lines = [
        "## Limits",
        "",
        "- The model predicts one of its classes for every picture, also for a picture of "
        "something else, and often with a high probability.",
        "- The accuracy holds for images like those named above. It can be lower with other "
        "cameras, light or framing; measure it on your own images with `squeezenet report`.",
    ]
    if num_images < _MIN_IMAGES_WITHOUT_WARNING:
        lines.append(f"- {num_images} images are few: see the 95% interval of the accuracy above.")
    if measured.chose_weights:
        lines.append(
            "- The weights are those of the epoch that did best on these same images, so the "
            "numbers are slightly optimistic; measure on images that were not used before."
        )
    elif measured.result:
        lines.append(
            "- It is not known whether training used some of these images; training never reads a "
            "test/ folder."
        )
    return [*lines, ""]


def _preprocessing(record: ModelRecord) -> str:
    p = record.preprocessing
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (p.mean, p.std))
    return (
        f"short side to {p.resize}, centre crop {p.crop[1]}x{p.crop[0]}, {p.channels}, "
        f"mean ({mean}), std ({std})"
    )


def _value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _text(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _text(text: str) -> str:
    """Escape Markdown: names come from folders and files, and must not break tables."""
    return "".join(c if c.isprintable() else " " for c in text).translate(_ESCAPES)
