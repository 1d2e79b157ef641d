"""Which names and ids of classes are valid."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from squeezenet.arch.spec import MAX_CHANNELS
from squeezenet.errors import DataError, SpecError

MAX_NAME_CHARACTERS = 256
"""spec/FORMAT.md, "LABELS". ImageNet's longest name has 30."""


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """Names of classes in the order of the outputs, and other names for the same or none."""

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()


def numbered_classes(num_classes: int) -> tuple[str, ...]:
    """Return the names of classes whose names nobody knows: class0, class1, ..."""
    return tuple(f"class{i}" for i in range(num_classes))


def ordered_names(value: object) -> tuple[str, ...]:
    """Read class names from a list, or from a mapping of names to outputs or of outputs to names.

    Returns none if ``value`` is nothing of the kind, or does not number the outputs from 0 on.
    """
    if not isinstance(value, (dict, list, tuple)) or len(value) > MAX_CHANNELS:
        return ()
    if isinstance(value, dict):
        pairs = list(value.items())
        if all(type(output) is int for _, output in pairs):
            pairs = [(output, name) for name, output in pairs]
        try:
            numbered = sorted((int(output), name) for output, name in pairs)
        except (TypeError, ValueError, OverflowError):
            return ()
        if not all(isinstance(name, str) for _, name in numbered):
            return ()
        if [output for output, _ in numbered] != list(range(len(numbered))):
            return ()
        return tuple(name for _, name in numbered)
    return tuple(value) if all(isinstance(name, str) for name in value) else ()


@contextlib.contextmanager
def hint_at_classes(names: tuple[str, ...]) -> Iterator[None]:
    """Add to a ``DataError`` how a model gets class names, if ``names`` are only numbered."""
    try:
        yield
    except DataError as error:
        if names != numbered_classes(len(names)):
            raise
        raise DataError(
            f"{error}; its file does not name its classes: pass --classes FILE, with a name per "
            "line in the order of its outputs"
        ) from None


def check_labels(
    names: tuple[str, ...], ids: tuple[str, ...], num_classes: int, where: str
) -> None:
    """Refuse names and ids that are not unique or not printable.

    Raises:
        SpecError: there is a wrong number of them, or one is invalid; begins with ``where``.
    """
    if len(names) != num_classes:
        raise SpecError(f"{where}: {len(names)} class names, expected {num_classes}")
    if ids and not len(ids) == len(set(ids)) == num_classes:
        raise SpecError(
            f"{where}: {len(set(ids))} distinct class ids, expected {num_classes} or none"
        )
    if not ids and len(set(names)) != num_classes:
        raise SpecError(
            f"{where}: two classes have the same name; expected unique names, or class ids"
        )
    for name in (*names, *ids):
        if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise SpecError(
                f"{where}: class name {name[:40]!r} has {len(name)} characters, "
                f"expected 1 to {MAX_NAME_CHARACTERS} printable ones"
            )
