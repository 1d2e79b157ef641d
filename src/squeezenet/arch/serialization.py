"""Frozen dataclasses <-> plain JSON values, strictly, and the canonical JSON text.

Used for everything that is stored: specs, preprocessing, recipes, records. The data may be
hostile, so reading refuses unknown keys, missing keys and wrong types. Each class's
``__post_init__`` checks the ranges.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import Any, TypeVar

from squeezenet.errors import SpecError

T = TypeVar("T")


def to_plain(value: object) -> Any:
    """Convert (nested) dataclasses and tuples to dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def canonical_json(value: object) -> str:
    """Return JSON text that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(
        to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def from_plain(cls: type[T], data: object, where: str) -> T:
    """Build a dataclass of type ``cls`` from plain JSON values.

    ``where`` is the start of the path in error messages, as in ``spec.fires[3].s1x1``.

    Raises:
        SpecError: a key is missing or unknown, a type is wrong, or ``cls`` refuses the values.
    """
    if not isinstance(data, dict):
        raise SpecError(f"{where}: found {_kind(data)}, expected an object")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(map(str, data)) - set(fields))
    if unknown:
        raise SpecError(
            f"{where}: unknown key {unknown[0][:40]!r}, expected one of {sorted(fields)}"
        )
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SpecError(f"{where}: key {name!r} is missing")
    return cls(**values)


def _convert(hint: Any, value: object, where: str) -> Any:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is typing.Literal:
        if not isinstance(value, (str, int)) or value not in args:
            raise SpecError(f"{where}: found {str(value)[:40]!r}, expected one of {list(args)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise SpecError(f"{where}: found {_kind(value)}, expected a list")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise SpecError(f"{where}: found {len(value)} values, expected {len(args)}")
        return tuple(
            _convert(arg, v, f"{where}[{i}]")
            for i, (arg, v) in enumerate(zip(args, value, strict=True))
        )
    if origin is types.UnionType and type(None) in args:
        inner = next(arg for arg in args if arg is not type(None))
        return None if value is None else _convert(inner, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise SpecError(f"{where}: found {_kind(value)}, expected an object")
        return value
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise SpecError(f"{where}: found an integer too large for a float") from None
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where}: found {value}, expected a finite number")
    if type(value) is not hint:
        raise SpecError(f"{where}: found {_kind(value)}, expected {hint.__name__}")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
