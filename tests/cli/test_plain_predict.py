"""``predict`` without the option parser does what it does with it, or leaves it to the parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from squeezenet.cli.failures import report_errors
from squeezenet.cli.plain_predict import plain_predict
from squeezenet.codec.model_kinds import DEFAULT_MODEL

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--top 2",
        "--top=2 --json",
        "--format csv",
        "--format=jsonl --top 0",
        "--min-probability 0.99",
        "--min-probability=7",
        "--min_probability .5 --strict",
        "--arch squeezenet_cifar",
    ],
)
def test_equals_the_parser(
    capsys: Capture, image_folder: Callable[..., Path], options: str
) -> None:
    arguments = [str(DEFAULT_MODEL), *options.split(), str(image_folder(a=1))]
    call = plain_predict(arguments)
    assert call is not None
    plain = report_errors(call), capsys.readouterr()
    assert (cli(["predict", *arguments]), capsys.readouterr()) == plain


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--help",
        "a.jpg -h",
        "a.jpg --top",
        "a.jpg --top two",
        "a.jpg --top -2",
        "a.jpg --top 1 --top 2",
        "a.jpg --min-probability nan",
        "a.jpg --format xml",
        "a.jpg --json=yes",
        "a.jpg --no-json",
        "a.jpg --unknown",
        "a.jpg -- --b.jpg",
    ],
)
def test_leaves_the_rest_to_the_parser(arguments: str) -> None:
    assert plain_predict(arguments.split()) is None
