"""The model card (arXiv 1810.03993) in Markdown; all its numbers are measured.

It begins with the metadata that model hubs read (``front_matter``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.sizes import LayerSizes
from squeezenet.evaluation.calibration import calibration_error, recorded_temperature
from squeezenet.evaluation.metrics import score
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.report.front_matter import (
    UNKNOWN_LICENSE,
    Accuracy,
    front_matter,
    measured_value,
    number,
)
from squeezenet.report.history import CompressionHistory
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
class ModelFacts:
    """What is known of a model without running it.

    ``result`` is the summary of the training run, or empty if unknown. ``layers`` are the stored
    sizes of a compressed file, ``file_sha256`` is in hex; both are empty if unknown. ``license``
    and ``dataset`` are for model hubs: the identifier of a license, and the name of a data set.
    """

    record: ModelRecord
    file_bytes: int
    result: dict[str, Any]
    layers: tuple[LayerSizes, ...] = ()
    file_sha256: str = ""
    license: str = UNKNOWN_LICENSE
    dataset: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured(ModelFacts):
    """A model with its predictions on a labelled set.

    ``data`` describes the images in words. ``chose_weights``: training selected its best epoch on
    these images. ``history``: how its file was compressed, if that is known.
    """

    predicted: LabelledLogits
    data: str
    chose_weights: bool
    history: CompressionHistory | None = None


def model_card(facts: ModelFacts, pictures: Sequence[str] = ()) -> str:
    """Return the card's text; ``pictures`` are the file names of figures in the same folder.

    Of a ``Measured`` model it has the accuracy on its images, else what its file says of itself.
    """
    record, spec = facts.record, facts.record.spec
    graph = build_graph(spec)
    counts = count(graph)
    height, width = spec.input_size
    channels = {1: "grey", 3: "colour"}.get(spec.input_channels, f"{spec.input_channels}-channel")
    names = record.class_names
    measured = facts if isinstance(facts, Measured) else None
    accuracies = measured_accuracies(measured) if measured else recorded_accuracies(facts)
    lines = [
        *front_matter(facts, accuracies),
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
        f"| bytes of the file | {facts.file_bytes:,} |",
        f"| peak bytes of activations, int8 | {peak_activation_bytes(graph):,} |",
        f"| preprocessing | {preprocessing_text(record)} |",
        *([f"| SHA-256 of the file | {facts.file_sha256} |"] if facts.file_sha256 else []),
        "",
        *(_accuracy(measured) if measured else _recorded(facts, accuracies)),
        *_compression(record),
        *_training(facts),
    ]
    for picture in pictures:
        lines += [f"![{picture.rpartition('.')[0]}]({picture})", ""]
    lines += _limits(facts)
    return "\n".join(lines)


def measured_accuracies(measured: Measured) -> list[Accuracy]:
    """Return what was measured on the images, for hubs."""
    result = score(measured.predicted)
    found = [Accuracy(name="top-1", percent=result.top1, images=result.images, data="images")]
    if len(measured.record.class_names) > 5:
        found.append(
            Accuracy(name="top-5", percent=result.top5, images=result.images, data="images")
        )
    return found


def recorded_accuracies(facts: ModelFacts) -> list[Accuracy]:
    """Return what the file's record, or else its training run, says was measured."""
    record, result = facts.record, facts.result
    images, data = measured_value(record, "images"), "labelled images when the file was made"
    values = {"top-1": measured_value(record, "top1"), "top-5": measured_value(record, "top5")}
    if values["top-1"] is None:
        images, data = number(result.get("val_images")), "validation images of the training"
        values = {"top-1": number(result.get("best_top1")), "top-5": None}
    if len(record.class_names) <= 5:
        values["top-5"] = None
    return [
        Accuracy(name=name, percent=value, images=int(images), data=data)
        for name, value in values.items()
        if value is not None and images is not None
    ]


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


def _recorded(facts: ModelFacts, accuracies: Sequence[Accuracy]) -> list[str]:
    """What the file or its training run says was measured."""
    if not accuracies:
        return []
    rows = [f"| {each.name} | {each.percent:.2f}% |" for each in accuracies]
    images = accuracies[0].images
    return [
        "## Accuracy",
        "",
        f"Measured on {images:,} {accuracies[0].data}:",
        "",
        "| | |",
        "|---|---|",
        *rows,
        "",
    ]


def _compression(record: ModelRecord) -> list[str]:
    """What compression measured of the file, as its record says."""
    rows = {
        "agreement": ("predictions as before compression", "{:.2f}%"),
        "kl": ("KL divergence from before compression", "{:.4f} nats"),
        "ece_before": ("expected calibration error before", "{:.2f} points"),
        "ece": ("expected calibration error after", "{:.2f} points"),
    }
    found = {key: measured_value(record, key) for key in rows}
    lines = [
        f"| {name} | {form.format(found[key])} |"
        for key, (name, form) in rows.items()
        if found[key] is not None
    ]
    if recorded_temperature(record) != 1:
        lines.append(
            f"| temperature that logits are divided by | {recorded_temperature(record):.4f} |"
        )
    num_images = measured_value(record, "images")
    if not lines or num_images is None:
        return []
    return [
        "## Compression", "", f"Measured on {num_images:,.0f} images when the file was made:", "",
        "| | |", "|---|---|", *lines, "",
    ]  # fmt: skip


def _training(facts: ModelFacts) -> list[str]:
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
    result = facts.result
    lines = [f"| {label} | {_value(result[key])} |" for key, label in rows.items() if key in result]
    provenance = facts.record.provenance
    for key in sorted(provenance):
        if isinstance(provenance[key], (str, int, float)) and key not in (*result, "temperature"):
            lines.append(f"| {_text(key.replace('_', ' '))} | {_value(provenance[key])} |")
    return ["## Training", "", "| | |", "|---|---|", *lines, ""] if lines else []


def _limits(facts: ModelFacts) -> list[str]:
    measured = facts if isinstance(facts, Measured) else None
    lines = [
        "## Limits",
        "",
        "- The model predicts one of its classes for every picture, also for a picture of "
        "something else, and often with a high probability.",
        "- The accuracy holds for images like those named above. It can be lower with other "
        "cameras, light or framing; measure it on your own images with `squeezenet report`.",
    ]
    if measured is None:
        return [*lines, ""]
    num_images = len(measured.predicted.labels)
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


def preprocessing_text(record: ModelRecord) -> str:
    """Return the preprocessing in words."""
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
