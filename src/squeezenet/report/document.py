"""The frame of a page that needs nothing else: no network, no other file.

Its policy forbids every request. A script may run only if the page names its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from squeezenet.report.markup import text
from squeezenet.report.style import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing but what is in it."""


def document(
    *,
    title: str,
    heading: str,
    about: str,
    sections: Sequence[tuple[str, str, str]],
    script: str = "",
) -> str:
    """Return the page; ``sections`` are those of ``markup.section``, named in its navigation."""
    links = "".join(f'<li><a href="#{each[0]}">{text(each[1])}</a></li>' for each in sections)
    body = "\n".join(each[2] for each in sections)
    policy, scripts = _POLICY, ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        scripts = f"<script>{script}</script>\n"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<header><h1>{text(heading)}</h1>\n"
        f'<p class="quiet">{text(about)}</p>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{body}\n</main>\n{scripts}</body>\n</html>\n"
    )
