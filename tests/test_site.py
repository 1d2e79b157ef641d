"""The documentation site: it builds, its links hold, and no page asks another host for anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools" / "site"))
from make_site import navigation_problems
from site_check import POLICY, check_site
from site_pages import collect, place, rewrite_links

MAKE_SITE = REPOSITORY / "tools" / "site" / "make_site.py"
_POLICY_TAG = (
    '<meta http-equiv="Content-Security-Policy" content="'
    + "; ".join(f"{name} {value}" for name, value in POLICY.items())
    + '">'
)


def test_it_builds_without_a_warning() -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("needs zensical: pip install -c constraints.txt '.[docs]'")
    done = subprocess.run([sys.executable, str(MAKE_SITE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()


def site_of(folder: Path, body: str, head: str = _POLICY_TAG, **files: str) -> Path:
    """A site of one page, and other files by their names (``_`` for ``.``)."""
    (folder / "index.html").write_text(f"<html><head>{head}</head><body>{body}</body></html>")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<img src="https://other.example/a.png">',
        '<img srcset="//other.example/a.png 2x">',
        '<script src="https://other.example/a.js"></script>',
        '<link rel="stylesheet" href="https://other.example/a.css">',
        '<link rel="preconnect" href="https://other.example">',
        '<p style="background: url(https://other.example/a.png)">',
        "<style>@import 'https://other.example/a.css';</style>",
        '<iframe src="https://other.example"></iframe>',
    ],
)
def test_a_load_from_another_host_is_found(tmp_path: Path, body: str) -> None:
    [problem] = check_site(site_of(tmp_path, body)).problems
    assert "other.example" in problem and "another host" in problem


def test_a_style_sheet_that_loads_from_another_host_is_found(tmp_path: Path) -> None:
    css = "@font-face { src: url('https://other.example/a.woff2'); }"
    [problem] = check_site(site_of(tmp_path, "", a_css=css)).problems
    assert problem.startswith("a.css: loads https://other.example/a.woff2")


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ("none.html", "not there"),
        ("#none", "no such anchor"),
        ("a.html#none", "no such anchor"),
        ("../up.html", "not there"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, link: str, what: str) -> None:
    site = site_of(tmp_path, f'<a href="{link}">x</a>', a_html=_POLICY_TAG)
    [problem] = check_site(site).problems
    assert link in problem and what in problem


def test_a_page_without_the_policy_is_found(tmp_path: Path) -> None:
    [problem] = check_site(site_of(tmp_path, "", head="")).problems
    assert problem.startswith("index.html: Content-Security-Policy")


def test_ordinary_links_are_fine_and_listed(tmp_path: Path) -> None:
    body = '<h1 id="a">A</h1><a href="#a">x</a><a href="https://other.example/p#q">y</a>'
    findings = check_site(site_of(tmp_path, body))
    assert findings.problems == ()
    assert findings.external == {"https://other.example/p": ("index.html",)}


def test_documents_stand_where_their_links_lead() -> None:
    text = (
        "[a](../../spec/FORMAT.md#trellis) [b](#here) [c](https://x.example) `[d](e)` "
        "![f](../images/flow.svg) [g](../../runtime/sqz.h) [h](../../README.md)\n"
        "```\n[i](j.md)\n```\n"
    )
    changed, linked = rewrite_links(text, "docs/how-to/a.md", lambda source, path: None)
    assert changed == (
        "[a](../spec/FORMAT.md#trellis) [b](#here) [c](https://x.example) `[d](e)` "
        "![f](../images/flow.svg) [g](../source/runtime/sqz.h.md) [h](../index.md)\n"
        "```\n[i](j.md)\n```\n"
    )
    assert linked == ["spec/FORMAT.md", "docs/images/flow.svg", "runtime/sqz.h", "README.md"]
    assert place("docs/how-to/a.md") == "how-to/a.md"


def repository_of(folder: Path, text: str) -> Path:
    for name in ("docs/index.md", "CHANGELOG.md", "CONTRIBUTING.md", "TESTING.md"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    (folder / "docs" / "a.md").write_text(text)
    return folder


def test_linked_source_becomes_a_page(tmp_path: Path) -> None:
    repository = repository_of(tmp_path / "r", "[b](../b.c)\n")
    (repository / "b.c").write_text("int b;\n")
    pages = collect(repository, tmp_path / "pages")
    assert pages["source/b.c.md"] == "b.c"
    assert "````c\nint b;\n````" in (tmp_path / "pages" / "source" / "b.c.md").read_text()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[x](none.md)", "links to docs/none.md"),
        ("[x](../docs)", "links to docs"),
        ("- a\n  - b\n", "four spaces"),
    ],
)
def test_documents_that_the_site_cannot_show_are_refused(
    tmp_path: Path, text: str, what: str
) -> None:
    with pytest.raises(SystemExit, match=what):
        collect(repository_of(tmp_path / "r", text), tmp_path / "pages")


def test_every_page_is_in_the_navigation() -> None:
    nav = [{"Home": "index.md"}, {"More": [{"A": "a.md"}, "b.md"]}]
    assert navigation_problems(nav, ["index.md", "a.md", "b.md", "source/c.md"]) == []
    assert navigation_problems(nav, ["index.md", "a.md", "d.md"]) == [
        "zensical.toml: nav lacks d.md",
        "zensical.toml: nav names b.md, which is no page",
    ]
