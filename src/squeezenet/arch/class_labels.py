"""Names of classes that come from outside of a model, or that nobody knows."""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.arch.spec import MAX_CHANNELS


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


def classes_hint(names: tuple[str, ...]) -> str:
    """Say how a model gets class names, if ``names`` are only numbered; the end of an error."""
    if names != numbered_classes(len(names)):
        return ""
    return (
        "; its file does not name its classes: pass --classes FILE, with a name per line in the "
        "order of its outputs"
    )
