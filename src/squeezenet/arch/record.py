"""The record inside every model file: what the network is, what it eats, what it answers.

Written as canonical JSON, so that equal models give equal bytes; no clock, no paths.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from squeezenet.arch.labels import check_labels
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.serialization import canonical_json, from_plain, to_plain
from squeezenet.arch.spec import AlexNetSpec, NetworkSpec, SqueezeNetSpec
from squeezenet.errors import SpecError

MAX_PROVENANCE_VALUES = 10_000
MAX_PROVENANCE_DEPTH = 32


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """``class_names[i]`` is what output i means; ``class_ids`` are folder names that mean the
    same (WordNet ids for ImageNet) or empty. ``provenance`` is free JSON: source and its
    SHA-256, method, settings, measured accuracy."""

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
        """The canonical text: equal records, equal bytes. Without ``labels`` the names and ids of
        the classes are left out."""
        plain = to_plain(self)
        if not labels:
            del plain["class_names"], plain["class_ids"]
        return canonical_json(plain)

    @staticmethod
    def from_json(
        text: str, labels: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    ) -> ModelRecord:
        """Read ``to_json``'s text; ``labels`` are (names, ids) of the classes, if it has none.

        Raises:
            SpecError: it is not such a text, or what it describes cannot exist.
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
                raise SpecError("model record: the classes stand in two places")
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


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _check_provenance(provenance: dict[str, Any]) -> None:
    """Bound what is otherwise free: it must be writable again, and small."""
    pending: list[tuple[Any, int]] = [(provenance, 0)]
    num_values = 0
    while pending:
        value, depth = pending.pop()
        num_values += 1
        if num_values > MAX_PROVENANCE_VALUES or depth > MAX_PROVENANCE_DEPTH:
            raise SpecError(
                f"provenance: over {MAX_PROVENANCE_VALUES} values or {MAX_PROVENANCE_DEPTH} levels"
            )
        if isinstance(value, dict):
            pending += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            pending += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            if not value.isprintable():
                raise SpecError(f"provenance: {value[:40]!r} is not printable text")
        elif isinstance(value, float) and not math.isfinite(value):
            raise SpecError(f"provenance: found {value}, expected a finite number")


@dataclass(frozen=True, kw_only=True)
class _RecordBody:
    """A record without its spec, whose class depends on its ``family``."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)


def spec_from_plain(data: object) -> NetworkSpec:
    """Build a spec from its plain form; ``family`` tells which kind.

    Raises:
        SpecError: it is not one.
    """
    family = data.get("family") if isinstance(data, dict) else None
    if family == "squeezenet":
        return from_plain(SqueezeNetSpec, data, "spec")
    if family == "alexnet":
        return from_plain(AlexNetSpec, data, "spec")
    raise SpecError(f"spec: family is {family!r}, expected squeezenet or alexnet")
