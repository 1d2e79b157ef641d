"""Frozen dataclasses <-> plain JSON values, strictly, and the one canonical JSON text.

Used for everything that is stored: specs, preprocessing, recipes, records. Reading
refuses unknown keys, missing keys and wrong types, because the data may be hostile;
ranges are the business of each class's ``__post_init__``.
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
    """Turn (nested) dataclasses and tuples into dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def canonical_json(value: object) -> str:
    """Write the JSON text that equal values share: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def from_plain(cls: type[T], data: object, where: str) -> T:
    """Build a dataclass of type ``cls`` from plain values.

    ``where`` begins the path that an error names, as in ``spec.fires[3].s1x1``.

    Raises:
        SpecError: a key or a type is wrong, or the class refuses the values.
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
            raise SpecError(f"{where}: found an integer too large for a number") from None
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where}: found {value}, expected a finite number")
    if type(value) is not hint:
        raise SpecError(f"{where}: found {_kind(value)}, expected {hint.__name__}")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
