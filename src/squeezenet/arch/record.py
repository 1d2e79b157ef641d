"""The record inside every model file: the network, its input, its classes, its provenance.

Written as canonical JSON, so that equal models give equal bytes. It has no dates and no paths.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from squeezenet.arch.class_labels import ClassLabels, numbered_classes
from squeezenet.arch.labels import check_labels
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.serialization import canonical_json, from_plain, to_plain
from squeezenet.arch.spec import AlexNetSpec, NetworkSpec, SqueezeNetSpec
from squeezenet.errors import ClassCountError, SpecError, UsageError

MAX_PROVENANCE_VALUES = 10_000
MAX_PROVENANCE_DEPTH = 32
"""spec/FORMAT.md, "RECORD": they bound the work of reading a hostile record."""


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A network with its preprocessing and classes.

    ``class_names[i]`` names output i. ``class_ids`` are alternative folder names for the same
    classes (WordNet ids for ImageNet), or empty. ``provenance`` is free JSON: source and its
    SHA-256, method, settings, measured accuracy.

    Raises:
        SpecError: classes, preprocessing and network do not match, or the provenance is invalid.
    """

    spec: NetworkSpec
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec, prep = self.spec, self.preprocessing
        check_labels(self.class_names, self.class_ids, spec.num_classes, spec.name)
        _check_provenance(self.provenance)
        if prep.num_channels != spec.input_channels or prep.crop != spec.input_size:
            raise SpecError(
                f"{spec.name}: preprocessing gives {prep.num_channels}x{prep.crop[0]}x"
                f"{prep.crop[1]}, expected {spec.input_channels}x{spec.input_size[0]}x"
                f"{spec.input_size[1]}"
            )

    def to_json(self, *, labels: bool = True) -> str:
        """Return the canonical JSON text: equal records give equal text.

        Without ``labels`` the class names and ids are left out.
        """
        plain = to_plain(self)
        if not labels:
            del plain["class_names"], plain["class_ids"]
        return canonical_json(plain)

    @staticmethod
    def from_json(
        text: str, labels: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    ) -> ModelRecord:
        """Read ``to_json``'s text; ``labels`` are the classes' (names, ids) if it has none.

        Raises:
            SpecError: the text is not a record, or the record is not valid.
        """
        try:
            data = json.loads(text, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"model record: not JSON ({error})") from None
        if not isinstance(data, dict):
            raise SpecError("model record: expected an object")
        data = dict(data)
        if labels is not None:
            if "class_names" in data or "class_ids" in data:
                raise SpecError(
                    "model record: has class names, expected them only in the section LABELS"
                )
            data |= {"class_names": list(labels[0]), "class_ids": list(labels[1])}
        spec = spec_from_plain(data.pop("spec", None))
        body = from_plain(_RecordBody, data, "record")
        return ModelRecord(
            spec=spec,
            preprocessing=body.preprocessing,
            class_names=body.class_names,
            class_ids=body.class_ids,
            provenance=body.provenance,
        )


def with_labels(record: ModelRecord, labels: ClassLabels, where: str) -> ModelRecord:
    """Name the classes of a record that has none but class0, class1, ...

    ``where`` begins an error message.

    Raises:
        ClassCountError: there are not as many labels as classes.
        UsageError: the record has other names of its own, which would be lost.
    """
    if len(labels.names) != len(record.class_names):
        raise ClassCountError(
            f"{where}: the network has {len(record.class_names)} outputs, --classes names "
            f"{len(labels.names)}"
        )
    if record.class_names == numbered_classes(len(record.class_names)):
        return dataclasses.replace(record, class_names=labels.names, class_ids=labels.ids)
    if labels.names in (record.class_names, record.class_ids):
        return record
    raise UsageError(
        f"{where}: names its classes itself ({', '.join(record.class_names[:3])}, ...), and "
        "--classes differs; leave --classes out"
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key in one object")
    return result


def _check_provenance(provenance: dict[str, Any]) -> None:
    """Bound free-form JSON: printable, finite, of limited size and depth."""
    pending: list[tuple[Any, int]] = [(provenance, 0)]
    num_values = 0
    while pending:
        value, depth = pending.pop()
        num_values += 1
        if num_values > MAX_PROVENANCE_VALUES or depth > MAX_PROVENANCE_DEPTH:
            raise SpecError(
                f"provenance: expected at most {MAX_PROVENANCE_VALUES} values in "
                f"{MAX_PROVENANCE_DEPTH} levels"
            )
        if isinstance(value, dict):
            pending += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            pending += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            if not value.isprintable():
                raise SpecError(f"provenance: found {value[:40]!r}, expected printable text")
        elif isinstance(value, float) and not math.isfinite(value):
            raise SpecError(f"provenance: found {value}, expected a finite number")


@dataclass(frozen=True, kw_only=True)
class _RecordBody:
    """A record without its spec: the spec's class depends on its ``family``."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)


def spec_from_plain(data: object) -> NetworkSpec:
    """Build a spec from plain JSON values; the member ``family`` selects the class.

    Raises:
        SpecError: the values are not a valid spec.
    """
    family = data.get("family") if isinstance(data, dict) else None
    if family == "squeezenet":
        return from_plain(SqueezeNetSpec, data, "spec")
    if family == "alexnet":
        return from_plain(AlexNetSpec, data, "spec")
    raise SpecError(f"spec: family is {family!r}, expected squeezenet or alexnet")
