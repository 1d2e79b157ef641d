"""Build the documentation site and check it.

    python tools/site/make_site.py               into build/site/html
    python tools/site/make_site.py --external    list the links to other sites as well

Zensical builds it, in strict mode; ``zensical.toml`` has the navigation. Exit code 1 if a page is
missing in the navigation, a link or an anchor leads nowhere, or a page loads something from
another host. Needs the extra ``docs``, and no network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from site_check import check_site
from site_pages import collect

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "zensical.toml"
_BY_LINK = ("source/", "attacks/", "runtime/", "images/")
"""Places of pages and pictures that others link to, and the navigation need not name."""


def main() -> int:
    """Build and check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--external", action="store_true", help="list links to other sites")
    options = parser.parse_args()
    project = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]
    pages, html = REPOSITORY / project["docs_dir"], REPOSITORY / project["site_dir"]
    written = collect(REPOSITORY, pages)
    problems = navigation_problems(project["nav"], list(written))
    shutil.rmtree(html, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    said = (built.stdout + built.stderr).strip()
    if built.returncode != 0 or "warning" in said.lower():
        problems.append(f"zensical: exit code {built.returncode}\n{said}")
    else:
        findings = check_site(html)
        problems += findings.problems
        if options.external:
            for address, names in findings.external.items():
                print(f"{address}  ({names[0]}{', ...' if len(names) > 1 else ''})")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    count = sum(1 for _ in html.rglob("*.html"))
    print(f"{html.relative_to(REPOSITORY)}: {count} pages; open {html / 'index.html'}")
    return 0


def navigation_problems(nav: list[Any], pages: list[str]) -> list[str]:
    """Say which pages the navigation lacks, and which of its pages there are not."""
    named = set(_paths(nav))
    expected = {page for page in pages if page.endswith(".md") and not page.startswith(_BY_LINK)}
    lacks = [f"nav lacks {page}" for page in expected - named]
    unknown = [f"nav names {page}, which is no page" for page in named - set(pages)]
    return [f"zensical.toml: {problem}" for problem in sorted(lacks + unknown)]


def _paths(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _paths(entry)


if __name__ == "__main__":
    sys.exit(main())
