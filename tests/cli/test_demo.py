"""``demo``: the product's first promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezenet.cli import demo as demo_module
from squeezenet.cli.app import run as cli
from squeezenet.export.web import missing_builds
from tests.cli.running import Capture, output


def test_demo(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it, in full: it is the product's first promise."""
    text = output(capsys, "demo", "--out", tmp_path / "demo")
    assert "Method rd" in text and "range coder" in text and "digit0_is_" in text
    assert (tmp_path / "demo" / "run" / "report" / "MODEL_CARD.md").is_file()
    assert "squeezenet train photos\n" in text
    report = tmp_path / "demo" / "run" / "report" / "report.html"
    assert f"\nreport: {report}\n" in text and report.is_file()
    if not missing_builds():
        page = tmp_path / "demo" / "page"
        assert text.splitlines()[-1].startswith(f"page:   {page}, ")
        assert (page / "index.html").is_file()
    monkeypatch.setattr(demo_module, "REQUIRED_TOP1", 100.1)
    code = cli(["demo", "--out", str(tmp_path / "demo"), "--json"])  # trains no more
    captured = capsys.readouterr()
    assert code == 3 and "squeezenet: demo: top-1" in captured.err
    result = json.loads(captured.out)
    assert result["top1_before"] >= 97.0 and result["top1_after"] >= 97.0
    assert result["file_bytes"] <= 5_000
