"""What an error suggests: the nearest name, and where the help is. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """Name an unknown ``what`` and the nearest known one, if any is near."""
    import difflib

    names = {name.lstrip("-"): name for name in known}  # the dashes say nothing
    near = difflib.get_close_matches(word.lstrip("-"), list(names), n=1)
    return f"unknown {what} {word}" + (f"; did you mean {names[near[0]]}?" if near else ";")


def see_help(command: str = "") -> str:
    """Point to the help of a command, or of all."""
    return f"see squeezenet {command} --help" if command else "see squeezenet --help"
