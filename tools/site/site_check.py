"""Check a built site: internal links and anchors lead somewhere, nothing comes from outside.

In:  the folder of HTML, CSS and JavaScript.
Out: problems, one line each; links to other sites, which are listed but not followed.

A page loads by the attributes that HTML has for it, and by ``url()`` and ``@import`` of CSS. What
its JavaScript asks for cannot be read off the text. The browser holds that: every page has a
Content-Security-Policy that allows this site alone, and the policy is checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "worker-src": "'self' blob:",
    "base-uri": "'self'",
    "form-action": "'none'",
}
"""The policy of every page. Zensical's pages have inline scripts for the choice of the theme."""
_LOADING = {
    "audio": ("src",), "embed": ("src",), "iframe": ("src", "srcdoc"), "img": ("src", "srcset"),
    "input": ("src",), "object": ("data",), "script": ("src",), "source": ("src", "srcset"),
    "track": ("src",), "video": ("src", "poster"), "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}  # fmt: skip
_LOADING_LINKS = {
    "stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch",
    "manifest", "apple-touch-icon", "shortcut",
}  # fmt: skip
_CSS_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")


@dataclass(kw_only=True, eq=False)
class Page(HTMLParser):
    """What one HTML page has: ``ids``, ``loads`` (what it fetches), ``links``, its ``policy``."""

    ids: set[str] = field(default_factory=set)
    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    policy: str = ""
    _in_style: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag names, loads or links to."""
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        for name in _LOADING.get(tag, ()):
            self.loads += _addresses(name, values.get(name, ""))
        relation = set(values.get("rel", "").split())
        if tag == "link" and relation & _LOADING_LINKS:
            self.loads.append(values.get("href", ""))
        elif tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
        if values.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = values.get("content", "")
        if values.get("http-equiv", "").lower() == "refresh":
            self.links.append(values.get("content", "").partition("url=")[2])
        self.loads += _CSS_URL.findall(values.get("style", ""))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Note what a style sheet inside the page loads."""
        if self._in_style:
            self.loads += _CSS_URL.findall(data)

    def handle_endtag(self, tag: str) -> None:
        """End the style sheet."""
        self._in_style = False


@dataclass(frozen=True, kw_only=True)
class Findings:
    """``problems``: lines. ``external``: address of another site -> pages that link to it."""

    problems: tuple[str, ...]
    external: dict[str, tuple[str, ...]]


def check_site(site: Path) -> Findings:
    """Check all pages and style sheets under a folder."""
    site = site.resolve()
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    problems: list[str] = []
    external: dict[str, list[str]] = {}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        if _parsed(page.policy) != POLICY:
            problems.append(f"{name}: Content-Security-Policy is {page.policy!r}")
        for load in page.loads:
            problems += [f"{name}: {problem}" for problem in _load_problem(load, path, site)]
        for link in page.links:
            if urlsplit(link).scheme in ("http", "https"):
                external.setdefault(link.partition("#")[0], []).append(name)
            elif not urlsplit(link).scheme:
                problems += [f"{name}: {each}" for each in _link_problem(link, path, site, pages)]
    for path in sorted(site.rglob("*.css")):
        for load in _CSS_URL.findall(path.read_text(encoding="utf-8")):
            found = _load_problem(load, path, site)
            problems += [f"{path.relative_to(site).as_posix()}: {problem}" for problem in found]
    if not pages:
        problems.append(f"{site}: no pages")
    return Findings(
        problems=tuple(problems),
        external={link: tuple(names) for link, names in sorted(external.items())},
    )


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _parsed(policy: str) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in policy.split(";") if part.strip())
    return {name: value for name, _, value in parts}


def _addresses(attribute: str, value: str) -> list[str]:
    if attribute == "srcset":
        return [part.split()[0] for part in value.split(",") if part.strip()]
    return [value] if value else []


def _load_problem(load: str, page: Path, site: Path) -> list[str]:
    """What is wrong with something that a page loads: [] or one text."""
    address = urlsplit(load)
    if address.scheme in ("data", "blob") or load.startswith("#"):
        return []
    if address.scheme or address.netloc:
        return [f"loads {load} from another host"]
    file = _file(address.path, page, site)
    return [] if file is not None and file.is_file() else [f"loads {load}, which is not there"]


def _link_problem(link: str, page: Path, site: Path, pages: dict[Path, Page]) -> list[str]:
    address = urlsplit(link)
    file = page if not address.path else _file(address.path, page, site)
    if file is not None and file.is_dir():
        file = file / "index.html"
    if file is None or not file.is_file():
        return [f"links to {link}, which is not there"]
    anchor = unquote(address.fragment)
    if anchor and file in pages and anchor not in pages[file].ids:
        return [f"links to {link}, which has no such anchor"]
    return []


def _file(path: str, page: Path, site: Path) -> Path | None:
    """The file of a path in a link, or None outside the site."""
    root = site.resolve()
    start = root if path.startswith("/") else page.parent.resolve()
    file = (start / unquote(path).lstrip("/")).resolve()
    return file if file.is_relative_to(root) else None
