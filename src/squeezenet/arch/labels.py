"""Which names and ids of classes are valid."""

from __future__ import annotations

from squeezenet.errors import SpecError

MAX_NAME_CHARACTERS = 256
"""spec/FORMAT.md, "LABELS". ImageNet's longest name has 30."""


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
