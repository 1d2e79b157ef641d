"""One layout for every table and list of facts, on terminals of any width and for pipes.

On a terminal a table never wraps. What does not fit is shortened or left out, the least important
column first. A pipe gets everything. Standard library only: ``predict`` starts with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from squeezenet.cli.text import one_line, shorten_end, shorten_list, shorten_path, text_width

_GAP = 2
"""Spaces between columns; one space stands before the first."""
_SHORTEN = {"end": shorten_end, "path": shorten_path, "list": shorten_list}


class Column(NamedTuple):
    """A column of a table.

    ``rank`` orders columns by importance: 0 is the answer, the highest is given up first.
    ``shorten`` says how a cell loses text: at its "end", as a "path", as a "list" of items, or not
    at all (numbers). ``min_width`` is the least width, in terminal columns, of a column that is
    shortened. An ``optional`` column is left out where not even its title fits. Other titles are
    shortened before their cells are.
    """

    title: str
    rank: int = 0
    shorten: str = ""
    min_width: int = 8
    optional: bool = False


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[object]], width: int | None = None
) -> list[str]:
    """Lay a table out; the first line holds the titles. Numbers are aligned right.

    ``width``: columns of the terminal, or None for no limit.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    lines = ["", *([""] * len(rows))]
    gap = " "
    for i, (column, room) in enumerate(zip(columns, _fit(columns, cells, width), strict=True)):
        if room is None:
            continue
        numeric = all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        shorten = _SHORTEN[column.shorten or "end"]
        shown = [shorten_end(column.title, room), *(shorten(row[i], room) for row in cells)]
        room = max(map(text_width, shown))
        for j, text in enumerate(shown):
            padding = " " * (room - text_width(text))
            lines[j] += gap + (padding + text if numeric else text + padding)
        gap = " " * _GAP
    return [line.rstrip() for line in lines]


def _fit(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int | None
) -> list[int | None]:
    """The width of each column; None for one that is left out."""
    titles = [text_width(column.title) for column in columns]
    content = [max((text_width(row[i]) for row in cells), default=0) for i in range(len(columns))]
    widths: list[int | None] = [*map(max, titles, content)]
    if width is None:
        return widths
    for i in sorted(range(len(columns)), key=lambda i: (-columns[i].rank, -i)):
        excess = _total(widths) - width
        if excess <= 0:
            break
        column = columns[i]
        least = min(content[i], column.min_width) if column.shorten else content[i]
        if column.optional:
            least = max(least, titles[i])
        left = max(titles[i], content[i]) - excess
        widths[i] = None if column.optional and left < least else max(left, least)
    return widths


def _total(widths: Sequence[int | None]) -> int:
    shown = [room for room in widths if room is not None]
    return 1 + sum(shown) + _GAP * (len(shown) - 1)


def fact_lines(facts: Sequence[tuple[str, str]], width: int | None = None) -> list[str]:
    """Lay out names with values; a value that is too long goes on below itself."""
    indent = max(text_width(name) for name, _ in facts) + _GAP
    if width is not None and width < 2 * indent:
        indent = _GAP  # too narrow for two columns: the value begins on a line of its own
    lines = []
    for name, value in facts:
        first, *more = text_lines(value, None if width is None else width - indent)
        padding = indent - text_width(name)
        if padding > 0:
            lines.append(name + " " * padding + first)
        else:
            lines += [name, " " * indent + first]
        lines += [" " * indent + line for line in more]
    return lines


def text_lines(text: str, width: int | None = None) -> list[str]:
    """Break a text at its spaces, so that no number is cut in two; ``width`` as above."""
    lines: list[str] = []
    for word in one_line(text).split(" "):
        longer = f"{lines[-1]} {word}" if lines and lines[-1] else word
        if not lines or (width is not None and text_width(longer) > width):
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def print_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout, as wide as the terminal allows."""
    head, *body = table_lines(columns, rows, terminal_width(sys.stdout))
    if title:
        print_text(title)
    print(_bold(head))
    for line in body:
        print(line)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names with values to stdout, as wide as the terminal allows."""
    for line in fact_lines(facts, terminal_width(sys.stdout)):
        print(line)


def print_text(text: str, stream: TextIO | None = None) -> None:
    """Print one line, or several on a narrow terminal, to stdout or another stream."""
    stream = sys.stdout if stream is None else stream
    for line in text_lines(text, terminal_width(stream)):
        print(line, file=stream)


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream is; None where it is none. ``COLUMNS`` comes first."""
    if not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return 80


def _bold(text: str) -> str:
    plain = (
        not sys.stdout.isatty()
        or os.environ.get("NO_COLOR")
        or os.environ.get("TERM") == "dumb"
        or os.name == "nt"  # where a console may show the escapes
    )
    return text if plain else f"\x1b[1m{text}\x1b[0m"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else one_line(str(value))
