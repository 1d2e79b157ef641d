"""The metadata at the head of a model card: YAML, with the fields that model hubs read.

The fields are those of Hugging Face's model cards: license, library, task, tags, data sets, metrics
and results (``model-index``). Values are written as JSON strings and numbers, which are YAML too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squeezenet.errors import UsageError

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.report.card import ModelFacts

UNKNOWN_LICENSE = "unknown"
"""The identifier for weights whose license nobody has named."""
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,49}")
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_TASK = "image-classification"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A measured accuracy: ``name`` is top-1 or top-5, ``data`` says which images in words."""

    name: str
    percent: float
    images: int
    data: str


def front_matter(facts: ModelFacts, accuracies: Sequence[Accuracy]) -> list[str]:
    """Return the lines of the metadata, with the lines of dashes around it and an empty one."""
    spec = facts.record.spec
    lines = [
        "---",
        f"license: {_quoted(facts.license)}",
        "library_name: squeezenet",
        f"pipeline_tag: {_TASK}",
        "tags:",
        *(f"- {_quoted(tag)}" for tag in dict.fromkeys((_TASK, "squeezenet", spec.name))),
    ]
    dataset = dataset_name(facts.dataset)
    if dataset:
        lines += ["datasets:", f"- {_quoted(dataset)}"]
    if accuracies:
        lines += [
            "metrics:",
            "- accuracy",
            "model-index:",
            f"- name: {_quoted(spec.name)}",
            "  results:",
            "  - task:",
            f"      type: {_TASK}",
            "    dataset:",
            f"      type: {_quoted(dataset or 'imagefolder')}",
            f"      name: {_quoted(facts.dataset or accuracies[0].data)}",
            "    metrics:",
        ]
        for each in accuracies:
            lines += [
                "    - type: accuracy",
                f"      name: {each.name} accuracy on {each.images} images",
                f"      value: {round(each.percent / 100, 6)}",
            ]
    return [*lines, "---", ""]


def require_license(name: str) -> None:
    """Refuse what is no identifier of a license.

    Raises:
        UsageError: it has other characters than such identifiers have.
    """
    if not _LICENSE.fullmatch(name):
        raise UsageError(
            f"--license {name!r}, expected an identifier such as apache-2.0, mit or cc-by-4.0"
        )


def require_dataset(name: str) -> None:
    """Refuse what is no name of a data set on a hub.

    Raises:
        UsageError: it is not of the form NAME or OWNER/NAME.
    """
    if not _DATASET.fullmatch(name):
        raise UsageError(f"--dataset {name!r}, expected NAME or OWNER/NAME, such as ylecun/mnist")


def dataset_name(name: str) -> str:
    """Return a folder's name as a hub would write it; as it is if a hub could have it."""
    if _DATASET.fullmatch(name):
        return name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:96]


def measured_value(record: ModelRecord, key: str) -> float | None:
    """Return a number that compression measured, as the record of its file says."""
    found = record.provenance.get("measured")
    return number(found.get(key)) if isinstance(found, dict) else None


def number(value: object) -> float | None:
    """Return a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e15 and math.isfinite(value) else None


def _quoted(text: str) -> str:
    """A YAML string in double quotes; characters that cannot be printed become spaces."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return json.dumps(printable, ensure_ascii=False)
