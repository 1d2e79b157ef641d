"""HTML of a report's page: escaped text, tables, lists of facts, sections.

Functions that take ``html`` expect markup that is escaped already; all others escape.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

MAX_TEXT = 300
"""Longer texts are cut: a name of a hostile file must not fill the page."""


def text(value: object) -> str:
    """Return a value as escaped text; control characters become spaces."""
    printable = "".join(c if c.isprintable() else " " for c in str(value)[: MAX_TEXT + 1])
    cut = printable if len(printable) <= MAX_TEXT else printable[: MAX_TEXT - 1] + "…"
    return escape(cut)


def code(words: str) -> str:
    """Return a command as markup that scrolls by itself, whole: it is there to be copied."""
    printable = "".join(c if c.isprintable() else " " for c in words)
    return f'<pre class="scroll" tabindex="0">{escape(printable)}</pre>'


def attribute(value: object) -> str:
    """Return a value as a quoted attribute."""
    return f'"{text(value)}"'


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    num_text: int = 1,
    footer: Sequence[str] = (),
    kind: str = "",
) -> str:
    """Return a table that scrolls by itself where it is too wide.

    ``rows`` and ``footer`` are cells of markup; the first of a row is its header. The first
    ``num_text`` columns hold text, the others numbers. ``kind``: a class of the style sheet.
    """

    def cells(row: Sequence[str]) -> str:
        first = f'<th scope="row">{row[0]}</th>'
        rest = (
            f"<td>{cell}</td>" if i < num_text else f'<td class="n">{cell}</td>'
            for i, cell in enumerate(row[1:], 1)
        )
        return f"<tr>{first}{''.join(rest)}</tr>"

    titles = "".join(
        f'<th scope="col"{"" if i < num_text else chr(32) + "class=" + chr(34) + "n" + chr(34)}>'
        f"{text(title)}</th>"
        for i, title in enumerate(head)
    )
    body = "\n".join(cells(row) for row in rows)
    foot = f"<tfoot>{cells(footer)}</tfoot>" if footer else ""
    kinds = f" {kind}" if kind else ""
    return (
        f'<div class="scroll{kinds}" role="region" tabindex="0" aria-label={attribute(caption)}>'
        f"<table><caption><span>{text(caption)}</span></caption><thead><tr>{titles}</tr></thead>"
        f"<tbody>\n{body}\n</tbody>{foot}</table></div>"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return pairs of a name and markup as a list."""
    items = "\n".join(f"<div><dt>{text(name)}</dt><dd>{html}</dd></div>" for name, html in rows)
    return f"<dl>\n{items}\n</dl>"


def details(summary: str, html: str) -> str:
    """Return markup that opens when its summary is activated."""
    return f"<details><summary>{text(summary)}</summary>{html}</details>"


def figure(html: str, caption: str) -> str:
    """Return a drawing with its caption."""
    return f"<figure>{html}<figcaption>{text(caption)}</figcaption></figure>"


def section(identifier: str, title: str, *html: str) -> tuple[str, str, str]:
    """Return a section of the page: its identifier, title and markup."""
    body = "\n".join(part for part in html if part)
    return (
        identifier,
        title,
        f'<section id="{identifier}" aria-labelledby="h-{identifier}">'
        f'<h2 id="h-{identifier}">{text(title)}</h2>\n{body}\n</section>',
    )


def data_url(kind: str, data: bytes) -> str:
    """Return bytes of a media type as a URL that needs no server."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
