"""Collect the pages of the documentation site in one folder, with links that hold there.

In:  documents as they are in the repository: ``docs/``, ``spec/``, some of the root, and whatever
     these link to.
Out: a folder of Markdown and pictures, which Zensical turns into the site.

``docs/`` becomes the root of the site; README is its front page, ``docs/index.md``. A link to a
source file leads to a page with its text. A document reads alike on the forge and on the site:
nothing is changed but links, and ``\\|`` in the code of a table, whose backslash Python-Markdown
would show.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT_DOCUMENTS = ("CHANGELOG.md", "CONTRIBUTING.md", "TESTING.md")
"""Documents of the repository's root that are pages; README is for the forge and PyPI."""
_FRONT = {"README.md": "index.md", "docs/index.md": "index.md"}
_PICTURES = (".png", ".svg", ".jpg", ".webp")
_LANGUAGES = {".c": "c", ".h": "c", ".py": "python", ".yaml": "yaml", ".sh": "sh", ".sbatch": "sh"}
_CODE_OR_LINK = re.compile(
    r"^(?P<fence>```+).*?^(?P=fence)[ ]*$|(?P<ticks>`+).+?(?P=ticks)"
    r"|\]\((?P<target>[^()\s]+)\)",
    re.DOTALL | re.MULTILINE,
)
_NESTED = re.compile(r"^(?: {1,3}| {5,7})[-*] ", re.MULTILINE)


def is_external(target: str) -> bool:
    """Return whether a link leads out of the repository."""
    return re.match(r"[a-z][a-z0-9+.-]*:|//", target) is not None


def place(source: str) -> str:
    """Return where a file of the repository stands on the site, both relative to their roots."""
    if source in _FRONT:
        return _FRONT[source]
    path = PurePosixPath(source)
    if path.suffix not in (".md", *_PICTURES):
        return f"source/{source}.md"
    if source in ROOT_DOCUMENTS:
        return f"project/{path.name.lower()}"
    return str(path.relative_to("docs")) if path.parts[0] == "docs" else source


def collect(repository: Path, target: Path) -> dict[str, str]:
    """Write all pages into ``target``, which is emptied first; return page -> its source.

    Raises:
        SystemExit: a document links to what is not there or is a folder, or nests a list by other
            than four spaces, which the site would show as one level.
    """
    shutil.rmtree(target, ignore_errors=True)
    waiting = [*ROOT_DOCUMENTS]
    for folder in ("docs", "spec"):
        found = (repository / folder).rglob("*.md")
        waiting += sorted(path.relative_to(repository).as_posix() for path in found)
    written: dict[str, str] = {}
    while waiting:
        source = waiting.pop()
        page = place(source)
        if page in written or source == "README.md":
            continue
        written[page] = source
        (target / page).parent.mkdir(parents=True, exist_ok=True)
        if page.endswith(_PICTURES):
            shutil.copyfile(repository / source, target / page)
        elif not source.endswith(".md"):
            (target / page).write_text(_source_page(repository, source), encoding="utf-8")
        else:
            text = (repository / source).read_text(encoding="utf-8")
            _require_lists(source, text)
            text, linked = rewrite_links(text, source, _existing(repository))
            (target / page).write_text(text, encoding="utf-8")
            waiting += linked
    return written


def rewrite_links(
    text: str, source: str, existing: Callable[[str, str], None]
) -> tuple[str, list[str]]:
    """Return a document with its relative links as they are on the site, and the files they name.

    Links in code are left alone. ``existing(source, path)`` complains if the path is not a file.
    """
    here = posixpath.dirname(place(source))
    linked: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        target = found["target"]
        if found["ticks"]:
            return found[0].replace("\\|", "|")
        if target is None or is_external(target) or target.startswith("#"):
            return found[0]
        path, hash_, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        existing(source, path)
        linked.append(path)
        return f"]({os.path.relpath(place(path), here or '.')}{hash_}{anchor})"

    return _CODE_OR_LINK.sub(replaced, text), linked


def _existing(repository: Path) -> Callable[[str, str], None]:
    def check(source: str, path: str) -> None:
        if path.startswith("../") or not (repository / path).is_file():
            raise SystemExit(f"{source}: links to {path}, expected a file of the repository")

    return check


def _require_lists(source: str, text: str) -> None:
    outside = _CODE_OR_LINK.sub(lambda found: "" if found["fence"] else found[0], text)
    if (wrong := _NESTED.search(outside)) is not None:
        line = outside[wrong.start() :].partition("\n")[0]
        raise SystemExit(f"{source}: nested list {line!r}, expected four spaces per level")


def _source_page(repository: Path, source: str) -> str:
    """A source file as a page."""
    path = repository / source
    code = path.read_text(encoding="utf-8").rstrip("\n")
    fence = "`" * 4
    language = _LANGUAGES.get(path.suffix, "text")
    return f"# {source}\n\n{fence}{language}\n{code}\n{fence}\n"
