"""The option parser's errors in our words: one line that points to the command's help."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from squeezenet.cli.suggest import see_help, unknown
from squeezenet.errors import UsageError

_KINDS = {int: "a whole number", float: "a number", Path: "a path"}


def parser_error(error: CycloptsError, command: str = "") -> UsageError:
    """Return the error to raise; ``command`` is the one whose arguments were parsed."""
    text = _described(error)
    where = f"{command}: " if command else ""
    return UsageError(f"{where}{text}{'' if text[-1] in '?;' else ';'} {see_help(command)}")


def _described(error: CycloptsError) -> str:
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).partition("=")[0]
        names = {name for argument in error.argument_collection for name in argument.names}
        return unknown("option", option, names)
    if type(error) is MissingArgumentError and error.argument is not None:
        name = error.keyword or error.argument.name
        given = error.keyword or error.argument.tokens
        return f"{name} needs a value" if given else f"{name} is missing"
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} is given twice"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"unexpected argument {error.unused_tokens[0]}"
    if isinstance(error, CoercionError) and error.token is not None and error.msg is None:
        name = error.token.keyword or (error.argument.name if error.argument else "argument")
        return f"{name} {error.token.value}, expected {_kind(error.target_type)}"
    error.verbose = False
    text = " ".join(str(error).split())
    return text[:1].lower() + text[1:].rstrip(".")


def _kind(type_: Any) -> str:
    if get_origin(type_) is Literal:
        *others, last = get_args(type_)
        return f"{', '.join(others)} or {last}" if others else str(last)
    return _KINDS.get(type_, getattr(type_, "__name__", str(type_)))
