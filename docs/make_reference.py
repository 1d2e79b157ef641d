"""Write ``docs/reference.md`` from the docstrings of the public Python API.

    python docs/make_reference.py            write it
    python docs/make_reference.py --check    exit code 1 if it is not up to date

Needs the package with its extra ``train``. What an option of ``train`` and ``compress`` means is
taken from the help of the command.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, ForwardRef, get_type_hints

import squeezenet
from squeezenet import client, errors
from squeezenet.cli.compress import compress as compress_command
from squeezenet.cli.explore import explore as explore_command
from squeezenet.cli.train import train as train_command

PAGE = Path(__file__).with_name("reference.md")
_HEAD = """# Python reference

Made by `python docs/make_reference.py` from the docstrings; change those, not this page.

`import squeezenet` loads nothing else: neither NumPy nor torch. `Classifier`, `Engine` and
`open_model` of a `.sqz` need no torch; `train` and `compress` need the extra `train`
(`pip install 'sqznet[train]'`), `explore`, `search` and `compression_table` also `explore`.
"""
_SECTIONS: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = (
    (
        "Predict",
        (
            ("squeezenet.Classifier", squeezenet.Classifier),
            ("squeezenet.Prediction", squeezenet.Prediction),
            ("squeezenet.ImageLimits", squeezenet.ImageLimits),
            ("squeezenet.open_model", squeezenet.open_model),
            ("squeezenet.OpenModel", squeezenet.OpenModel),
            ("squeezenet.client.Engine", client.Engine),
            ("squeezenet.client.available_kernels", client.available_kernels),
        ),
    ),
    (
        "Train and compress",
        (
            ("squeezenet.train", squeezenet.train),
            ("squeezenet.TrainResult", squeezenet.TrainResult),
            ("squeezenet.compress", squeezenet.compress),
            ("squeezenet.CompressionReport", squeezenet.CompressionReport),
        ),
    ),
    (
        "Explore the design space",
        (
            ("squeezenet.explore", squeezenet.explore),
            ("squeezenet.search", squeezenet.search),
            ("squeezenet.StudyResult", squeezenet.StudyResult),
            ("squeezenet.compression_table", squeezenet.compression_table),
            ("squeezenet.CompressionTableResult", squeezenet.CompressionTableResult),
        ),
    ),
    (
        "Large data sets",
        (
            ("squeezenet.shard", squeezenet.shard),
            ("squeezenet.index_shards", squeezenet.index_shards),
            ("squeezenet.ShardResult", squeezenet.ShardResult),
        ),
    ),
)

_COMMANDS = {
    "squeezenet.train": train_command,
    "squeezenet.compress": compress_command,
    "squeezenet.explore": explore_command,
    "squeezenet.search": explore_command,
    "squeezenet.compression_table": explore_command,
}
"""Function -> the command whose help describes its options."""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    for title, entries in _SECTIONS:
        parts.append(f"## {title}\n")
        for name, value in entries:
            parts += _class(name, value) if inspect.isclass(value) else _function(name, value)
    parts += ["## Errors\n", _text(errors), *_errors()]
    return "\n".join(parts).rstrip() + "\n"


def _function(name: str, function: Any, level: int = 3) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    yield _code(name.rpartition(".")[2], inspect.signature(function))
    yield _text(function)
    if name in _COMMANDS:
        yield _options(_COMMANDS[name], inspect.signature(function).parameters)


def _options(command: Callable[..., None], known: Container[str]) -> str:
    """A list of the function's arguments with the command's help, under their names in Python."""
    lines = []
    for name, hint in get_type_hints(command, include_extras=True).items():
        for parameter in getattr(hint, "__metadata__", ()):
            if parameter.help and name in known:
                text = parameter.help.replace("*", "\\*").replace("<", "&lt;")
                lines.append(f"- `{name}`: {text}")
    return "\n".join(lines) + "\n"


def _class(name: str, kind: type) -> Iterator[str]:
    yield f"### `{name}`\n"
    if dataclasses.is_dataclass(kind) or issubclass(kind, tuple):
        fields = {field: kind.__annotations__[field] for field in _fields(kind)}
        body = "\n".join(f"    {field}: {_annotation(of)}" for field, of in fields.items())
        yield f"```python\nclass {kind.__name__}:\n{body}\n```\n"
    else:
        signature = inspect.signature(kind)
        yield _code(kind.__name__, signature.replace(return_annotation=signature.empty))
    yield _text(kind)
    for member_name, member in sorted(vars(kind).items()):
        if member_name == "__call__":
            yield from _function("__call__", member, level=4)
        elif member_name.startswith("_") or not inspect.getdoc(member):
            continue
        elif inspect.isfunction(member):
            yield from _function(member_name, member, level=4)
        elif member_name not in _fields(kind):  # a property, cached or not
            yield f"#### `{member_name}`\n"
            yield _text(member)


def _fields(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(getattr(kind, "_fields", ()))


def _errors() -> Iterator[str]:
    """A line for each class, indented as they inherit: four spaces, which the site needs."""

    def below(kind: type, depth: int) -> Iterator[str]:
        first = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        yield f"{'    ' * depth}- `{kind.__name__}`: {first}"
        for child in kind.__subclasses__():
            yield from below(child, depth + 1)

    yield from below(errors.SqueezeNetError, 0)


def _code(name: str, signature: inspect.Signature) -> str:
    """A signature as code, a parameter a line if it is long."""
    parts = []
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        text = f"{parameter.name}: {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {_double_quoted(repr(parameter.default))}"
        parts.append(text)
    returns = signature.return_annotation
    arrow = "" if returns in (signature.empty, None) else f" -> {_annotation(returns)}"
    line = f"{name}({', '.join(parts)}){arrow}"
    if len(line) > 88:
        inner = "".join(f"    {part},\n" for part in parts)
        line = f"{name}(\n{inner}){arrow}"
    return f"```python\n{line}\n```\n"


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):  # in a NamedTuple
        return annotation.__forward_arg__
    if not isinstance(annotation, str):
        annotation = inspect.formatannotation(annotation)
    return _double_quoted(annotation)


def _double_quoted(code: str) -> str:
    """Code with the quotes that ruff writes; it formats the code in Markdown too."""
    return code.replace("'", '"')


def _text(documented: Any) -> str:
    """The docstring in Markdown: single backquotes, ``Raises`` as a list."""
    text = (inspect.getdoc(documented) or "").replace("``", "`")
    before, raises, after = text.partition("\nRaises:\n")
    if not raises:
        return f"{text}\n"
    lines = re.sub(r"\n {8,}", " ", f"\n{after}").strip().splitlines()
    items = [re.sub(r"^ *([\w, ]+): ", r"- `\1`: ", line) for line in lines]
    items = [item.replace(", ", "`, `", item.split("`: ")[0].count(", ")) for item in items]
    return "\n".join([f"{before.rstrip()}\n", "Raises:\n", *items]) + "\n"


def main() -> int:
    """Write the page, or compare it; return the exit code."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        print(f"{PAGE} is not up to date: run python docs/make_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
