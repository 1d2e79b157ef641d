"""``fetch``: the list, and names that are not in it; downloads are in ``tests/model``."""

from __future__ import annotations

from squeezenet.model.published import PUBLISHED
from tests.cli.running import Capture, as_json, failure, output


def test_list(capsys: Capture) -> None:
    text = output(capsys, "fetch")
    for name, weights in PUBLISHED.items():
        assert name in text and weights.url in text
    assert list(as_json(capsys, "fetch")) == list(PUBLISHED)


def test_wrong_use(capsys: Capture) -> None:
    assert "no published weights 'nothing'" in failure(capsys, 2, "fetch", "nothing")
