"""Names and ids of classes: what they may be."""

from __future__ import annotations

from squeezenet.errors import SpecError

MAX_NAME_CHARACTERS = 256


def check_labels(
    names: tuple[str, ...], ids: tuple[str, ...], num_classes: int, where: str
) -> None:
    """Refuse names and ids that nobody could tell apart, or print.

    Raises:
        SpecError: begins with ``where``.
    """
    if len(names) != num_classes:
        raise SpecError(f"{where}: {len(names)} class names, expected {num_classes}")
    if ids and not len(ids) == len(set(ids)) == num_classes:
        raise SpecError(
            f"{where}: {len(set(ids))} different class ids, expected {num_classes} or none"
        )
    if not ids and len(set(names)) != num_classes:
        raise SpecError(f"{where}: two classes have the same name and there are no ids")
    for name in (*names, *ids):
        if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise SpecError(
                f"{where}: class name {name[:40]!r} has {len(name)} characters, "
                f"expected 1 to {MAX_NAME_CHARACTERS} printable ones"
            )
