"""The numbers of a report by hand, and its files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.cli.app import run as cli
from squeezenet.codec.container import encode
from squeezenet.evaluation.calibration import calibration_error
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.images.sets import ArrayImages
from squeezenet.report.card import Measured, model_card
from squeezenet.report.mistakes import (
    confusions,
    most_confused,
    wilson_interval,
    worst_mistakes,
)
from squeezenet.report.write import read_metrics, write_report
from squeezenet.sealed_files import sealed_line
from tests.conftest import random_model, record_of
from tests.train.small import Log

LOGITS = np.log(
    np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]],
        np.float32,
    )
)
PREDICTED = LabelledLogits(
    logits_NK=LOGITS, labels=np.array([0, 1, 0, 2, 2]), indices=np.array([0, 1, 3, 4, 5]), skipped=1
)


def test_confusion() -> None:
    counted = confusions(PREDICTED)
    assert counted.matrix(np.arange(3)).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert counted.images_K.tolist() == [2, 1, 2]
    assert counted.predictions_K.tolist() == [2, 2, 1] and counted.correct_K.tolist() == [1, 1, 1]
    confused = most_confused(counted, 9)
    pairs = [(pair.label, pair.predicted, pair.count, pair.total) for pair in confused]
    assert pairs == [(0, 1, 1, 2), (2, 0, 1, 2)]


def test_confusions_of_some_of_the_classes() -> None:
    counted = confusions(PREDICTED)
    assert counted.matrix(np.array([1, 2])).tolist() == [[1, 0], [0, 1]]
    assert counted.matrix(np.array([0, 2])).tolist() == [[1, 0], [1, 1]]
    assert counted.most_mistaken(1).tolist() == [0]  # in both mistakes
    assert counted.most_mistaken(2).tolist() == [0, 2]  # more images than class 1
    assert counted.most_mistaken(9).tolist() == [0, 1, 2]


def test_worst_mistakes_come_first_and_name_the_place_in_the_set() -> None:
    worst = worst_mistakes(PREDICTED, 5)
    assert [(m.index, m.label, m.predicted) for m in worst] == [(3, 0, 1), (4, 2, 0)]
    assert worst[0].probability == pytest.approx(0.9)
    assert len(worst_mistakes(PREDICTED, 1)) == 1


def test_calibration_error() -> None:
    # One image per bin: 0.7 correct, 0.8 correct, 0.9 wrong; a 0.6 wrong and a 0.6 correct share
    # one.
    assert calibration_error(PREDICTED) == pytest.approx(
        100 * (0.3 + 0.2 + 0.9 + 0.2) / 5, abs=1e-3
    )


def test_wilson_interval() -> None:
    # Of n correct out of n, the lower end is n / (n + z^2).
    assert wilson_interval(0.0, 7)[0] == 0.0
    assert wilson_interval(100.0, 10) == pytest.approx((100 * 10 / (10 + 1.96**2), 100.0))
    low, high = wilson_interval(50.0, 100)
    assert (low + high) / 2 == pytest.approx(50.0) and high - low == pytest.approx(19.2, abs=0.1)


def measured(record: ModelRecord, predicted: LabelledLogits = PREDICTED) -> Measured:
    return Measured(
        record=record,
        predicted=predicted,
        file_bytes=1234,
        data="from a|folder",
        chose_weights=False,
        result={"recipe": "small", "steps": 12_345},
    )


def small_record(tiny_spec: SqueezeNetSpec, *names: str) -> ModelRecord:
    record = record_of(dataclasses.replace(tiny_spec, num_classes=len(names), batch_norm=False))
    return dataclasses.replace(record, class_names=names)


def test_card_escapes_names_and_has_the_measurements(tiny_spec: SqueezeNetSpec) -> None:
    record = small_record(tiny_spec, "a|b", "<b>", "c*")
    card = model_card(measured(record), ["confusion.png"])
    assert "| a\\|b | 2 | 50.0% | 50.0% |" in card and "&lt;b&gt;" in card and "c\\*" in card
    assert "top-1 | 60.00% (95% interval 23.1 to 88.2)" in card and "top-5" not in card
    assert "from a\\|folder" in card and "| steps | 12,345 |" in card
    assert "![confusion](confusion.png)" in card and "epoch that did best" not in card
    peak = peak_activation_bytes(build_graph(record.spec))
    assert f"| peak bytes of activations, int8 | {peak:,} |" in card


def test_equal_reports_have_equal_bytes(tiny_spec: SqueezeNetSpec, tmp_path: Path) -> None:
    record = small_record(tiny_spec, r"$\foo$", "猫", "z")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
    images = ArrayImages(
        pixels_NHWC=pixels, labels=np.zeros(6, np.int64), class_names=("a",), title="t"
    )
    metrics = [
        {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 0.1},
        {"kind": "train", "step": 2, "epoch": 1.0, "loss": 1.0, "learning_rate": 0.0},
        {"kind": "val", "step": 2, "epoch": 1, "top1": 50.0, "top5": 90.0},
    ]
    first = write_report(tmp_path / "a", measured(record), images, metrics)
    second = write_report(tmp_path / "b", measured(record), images, metrics)
    assert [path.name for path in first] == ["MODEL_CARD.md"] + [
        f"{name}.{kind}" for name in ("curves", "confusion", "mistakes") for kind in ("png", "svg")
    ] + ["mistakes.csv", "report.html"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes() and a.stat().st_size > 50


@pytest.mark.parametrize("num_classes", [2, 30, 60, 2001])
def test_figures_of_any_number_of_classes(
    tiny_spec: SqueezeNetSpec, tmp_path: Path, num_classes: int
) -> None:
    record = small_record(tiny_spec, *(f"class {i}" for i in range(num_classes)))
    correct = np.eye(num_classes, dtype=np.float32) * 9
    predicted = LabelledLogits(
        logits_NK=correct, labels=np.arange(num_classes), indices=np.arange(num_classes), skipped=0
    )
    pixels = np.zeros((num_classes, 4, 4, 3), np.uint8)
    images = ArrayImages(
        pixels_NHWC=pixels, labels=predicted.labels, class_names=record.class_names, title="t"
    )
    paths = write_report(tmp_path, measured(record, predicted), images)
    assert not any("curves" in path.name for path in paths)
    assert "Confused most often" not in paths[0].read_text()


def test_invalid_and_cut_lines_of_metrics_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(file) == []
    valid = {"kind": "val", "epoch": 1, "top1": 3, "top5": 4}
    not_drawn = [
        {"kind": "val", "epoch": 1}, {"kind": [], "epoch": 1}, {}, valid | {"top1": "3"},
        valid | {"top1": math.nan}, valid | {"top5": 10**400}, valid | {"epoch": [1]},
    ]  # fmt: skip
    whole = "".join(map(sealed_line, [valid, *not_drawn]))
    bad = ['{"kind": "val", "epoch": 1, "top1": 3, "top5": 4}', "[]", '{"kind": "tr', "[" * 4000]
    bad += [sealed_line(valid).replace("3", "2", 1), sealed_line(valid | {"x": "y" * 5000})]
    file.write_text(whole + "\n".join(bad))
    log = Log()
    assert [line["top1"] for line in read_metrics(file, log)] == [3]
    assert log.lines == [f"{file}: 6 damaged lines are left out"]


def test_command_on_a_compressed_file(
    tiny_record: ModelRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = dataclasses.replace(tiny_record, class_names=tuple("0123456789"))
    model = tmp_path / "m.sqz"
    model.write_bytes(encode(random_model(record)))
    out = tmp_path / "report"
    assert cli(["report", str(model), "digits", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["images"] == 451 and printed["files"][0] == str(out / "MODEL_CARD.md")
    assert all(Path(file).is_file() for file in printed["files"])
    assert cli(["report", str(model), "digits", "--out", str(model)]) == 2
