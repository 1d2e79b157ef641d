"""The page, figures and table of a study, from results that were never trained."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from squeezenet.arch.presets import squeezenet_tiny
from squeezenet.report.study.page import difference, study_page
from squeezenet.report.study.results import (
    Finalist,
    PaperFigure,
    SearchResults,
    StudyResults,
    TrialMeasures,
    TrialRow,
    estimate,
)
from squeezenet.report.study.search_page import parallel_coordinates
from squeezenet.report.study.write import write_study


def trial(label: str, x: float | None, seed: int, top1: float | None, **others: Any) -> TrialRow:
    measures = None
    if top1 is not None:
        measures = TrialMeasures(
            top1=top1, top5=99.0, images=100, parameters=1000, macs=10_000, weight_bytes=4_000_000,
            epochs=8.0, seconds=60.0, file_bytes=900 + int(top1), arena_bytes=500,
        )  # fmt: skip
    return TrialRow(
        name=f"{label}-seed{seed}",
        variant=label,
        label=label,
        x=x,
        seed=seed,
        state=others.pop("state", "done" if measures else "failed"),
        measures=measures,
        spec=squeezenet_tiny(),
        **others,
    )


def study(*trials: TrialRow, **others: Any) -> StudyResults:
    known: dict[str, Any] = {
        "name": "study", "title": "squeeze ratio", "axis": "SR", "data": "test images",
        "settings": (("recipe", "small"),), "command": "squeezenet explore sr data --out study",
    }  # fmt: skip
    return StudyResults(trials=trials, **known | others)


SWEEP = study(
    trial("0.5", 0.5, 0, 70.0), trial("0.5", 0.5, 1, 72.0), trial("1", 1.0, 0, 75.0),
    trial("1", 1.0, 1, None, error="=no memory <b>"),
    paper=(("1", PaperFigure(top5=86.0, megabytes=19)),),
)  # fmt: skip


def test_means_over_seeds_have_standard_errors() -> None:
    half, whole = SWEEP.variants()
    assert str(half.top1) == "71.00 ± 1.00" and str(whole.top1) == "75.00"
    assert difference(whole, whole) is None
    alone = difference(half, whole)
    assert alone is not None and str(alone) == "-4.00"  # one seed has no error
    three = estimate([1.0, 2.0, 3.0])
    assert three.error == pytest.approx(3**-0.5) and three.count == 3


def test_the_page_is_escaped_and_allows_its_own_script_alone() -> None:
    page = study_page(SWEEP)
    assert "=no memory &lt;b&gt;" in page and "<b>" not in page
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "-/86.0, 19 MB" in page
    assert not re.search(r"https?://", page)


def test_a_study_without_a_finished_trial_has_a_page() -> None:
    page = study_page(study(trial("1", 1.0, 0, None, state="waiting")))
    assert "waiting" in page and "Charts" not in page


def test_files_are_the_same_for_the_same_results(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_study(tmp_path / name, SWEEP)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        "SHA256SUMS", "size.png", "size.svg", "study.html", "trials.csv", "value.png", "value.svg",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with (tmp_path / "a" / "trials.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert rows[3]["error"] == "'=no memory <b>" and rows[3]["top1"] == ""


def test_forms_without_numbers_are_drawn_side_by_side(tmp_path: Path) -> None:
    forms = study(trial("none", None, 0, 70.0), trial("simple", None, 0, 71.0))
    page = write_study(tmp_path / "report", forms)
    assert "none: top-1 70.00%" in page.read_text()
    assert 'class="line c1" points' not in page.read_text()  # no line between them


def test_a_search_has_its_front_and_what_was_given_up(tmp_path: Path) -> None:
    choices = (("stem", 16), ("bypass", "none"))
    trials = (
        trial("a", None, 0, 70.0, choices=choices),
        trial("b", None, 0, 60.0, choices=(("stem", 32), ("bypass", "simple"))),
        trial("c", None, 0, 20.0, choices=choices, state="stopped"),
    )
    found = SearchResults(
        front=("a-seed0", "b-seed0"),
        finalists=(
            Finalist(
                name="a-seed0", estimated_bytes=970, file_bytes=1000, top1=69.0, float_top1=70.0
            ),
        ),
        best="a-seed0",
        train_best="squeezenet train data --arch a.json --out a",
        importances=(("stem", 0.9), ("bypass", 0.1)),
    )
    results = study(*trials, search=found)
    assert [row.name for row in results.front_trials()] == ["b-seed0", "a-seed0"]
    page = write_study(tmp_path / "report", results).read_text()
    assert "given up early" in page and "<td>stopped</td>" in page
    assert '<td class="n">-3.0</td>' in page and "fANOVA" in page
    assert (tmp_path / "report" / "bytes.svg").exists()
    svg = parallel_coordinates([(t, t.measures) for t in trials[:2] if t.measures is not None])
    assert svg.count("<polyline") == 2 and "simple" in svg
    nothing = study_page(study(*trials, search=SearchResults(
        front=(), finalists=(), best=None, train_best=""
    )))  # fmt: skip
    assert "No network is within the budgets" in nothing
