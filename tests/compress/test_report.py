"""Reports: what is lost, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from squeezenet.compress.report import CompressionReport
from squeezenet.errors import QualityError
from squeezenet.evaluation.metrics import Comparison

REPORT = CompressionReport(
    file_bytes=1000, method="rd", original_bytes=9000, stages=(), layers=(), measured_images=200,
    comparison=Comparison(
        agreement=97.5, kl=0.1, top1_difference=-1.5, top1_standard_error=0.1,
        top5_difference=-9.0, top5_standard_error=0.1,
    ),
    measured_labelled=True, max_drop=None, target_bytes=None,
)  # fmt: skip


def test_what_is_lost() -> None:
    assert REPORT.drop == 1.5
    assert dataclasses.replace(REPORT, measured_labelled=False).drop == 2.5


def test_what_was_required_is_kept() -> None:
    REPORT.require_quality()
    dataclasses.replace(REPORT, max_drop=1.5, target_bytes=1000).require_quality()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_bytes": 999}, "has 1000 bytes, expected at most 999; ask for a few bytes less"),
        ({"max_drop": 1.49}, "1.50 points of top-1 lost on 200 images, expected at most 1.49; all"),
        ({"max_drop": float("nan")}, "1.50 points of top-1 lost"),
        (
            {"max_drop": 2.0, "measured_labelled": False},
            "2.50 percent of predictions changed on 200 images, expected at most 2; allow more",
        ),
        ({"target_bytes": 1, "method": "deep-compression"}, r"prune more \(--density\)"),
        ({"max_drop": 0.0, "method": "deep-compression"}, "keep more weights"),
    ],
)
def test_what_was_required_and_is_not_kept(options: dict[str, object], message: str) -> None:
    with pytest.raises(QualityError, match=f"the file is written, but .*{message}"):
        dataclasses.replace(REPORT, **options).require_quality()  # type: ignore[arg-type]
