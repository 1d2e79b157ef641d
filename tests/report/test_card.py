"""The model card: metadata that is YAML, and figures that were measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.cli.app import run as cli
from squeezenet.codec.container import encode
from squeezenet.report.card import ModelFacts, model_card
from squeezenet.report.front_matter import dataset_name
from tests.conftest import random_model
from tests.report.test_report import measured, small_record

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which webdataset brings")
MEASURED = {
    "images": 200, "agreement": 97.5, "kl": 0.0312, "top1": 88.5, "top5": 99.5,
    "ece": 1.25, "ece_before": 4.75,
}  # fmt: skip


def head_and_body(card: str) -> tuple[dict[str, Any], str]:
    assert card.startswith("---\n")
    head, body = card[4:].split("\n---\n", 1)
    return yaml.safe_load(head), body


def results_of(head: dict[str, Any]) -> dict[str, Any]:
    """The one result of the one model of the metadata."""
    (model,) = head["model-index"]
    (result,) = model["results"]
    return result


def compressed_record(record: ModelRecord) -> ModelRecord:
    provenance = {"method": "rd", "temperature": 1.5, "measured": MEASURED}
    names = tuple("0123456789")
    return dataclasses.replace(record, class_names=names, provenance=provenance)


def test_metadata_of_a_measured_model(tiny_spec: SqueezeNetSpec) -> None:
    facts = dataclasses.replace(
        measured(small_record(tiny_spec, "a", "b", "c")), license="mit", dataset="my photos: 1"
    )
    head, _ = head_and_body(model_card(facts))
    assert (head["license"], head["pipeline_tag"]) == ("mit", "image-classification")
    assert head["library_name"] == "squeezenet" and head["metrics"] == ["accuracy"]
    assert head["tags"] == ["image-classification", "squeezenet", facts.record.spec.name]
    assert head["datasets"] == ["my-photos-1"]
    assert head["model-index"][0]["name"] == facts.record.spec.name
    result = results_of(head)
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"type": "my-photos-1", "name": "my photos: 1"}
    (metric,) = result["metrics"]  # with three classes there is no top-5
    assert metric == {"type": "accuracy", "name": "top-1 accuracy on 5 images", "value": 0.6}


def test_without_images_the_card_has_what_the_file_says(tiny_record: ModelRecord) -> None:
    facts = ModelFacts(record=compressed_record(tiny_record), file_bytes=5000, result={})
    head, body = head_and_body(model_card(facts))
    values = {each["name"]: each["value"] for each in results_of(head)["metrics"]}
    assert values == {"top-1 accuracy on 200 images": 0.885, "top-5 accuracy on 200 images": 0.995}
    assert head["license"] == "unknown" and "datasets" not in head
    assert "| top-1 | 88.50% |" in body
    assert "| KL divergence from before compression | 0.0312 nats |" in body
    assert "| expected calibration error before | 4.75 points |" in body
    assert "| expected calibration error after | 1.25 points |" in body
    assert "| temperature that logits are divided by | 1.5000 |" in body


def test_without_a_measurement_there_is_no_figure(tiny_record: ModelRecord) -> None:
    head, body = head_and_body(model_card(ModelFacts(record=tiny_record, file_bytes=5, result={})))
    assert "metrics" not in head and "model-index" not in head
    assert "## Accuracy" not in body and "## Compression" not in body
    run = ModelFacts(
        record=tiny_record, file_bytes=5, result={"best_top1": 91.25, "val_images": 80}
    )
    head, body = head_and_body(model_card(run))
    assert results_of(head)["metrics"][0]["value"] == 0.9125
    assert "Measured on 80 validation images of the training" in body


@pytest.mark.parametrize(
    "bad", [{"top1": "99"}, {"top1": True, "images": 3}, {"images": 10}, "text", {"top1": 1e300}]
)
def test_what_a_file_says_wrongly_is_left_out(tiny_record: ModelRecord, bad: object) -> None:
    record = dataclasses.replace(tiny_record, provenance={"measured": bad})
    head, _ = head_and_body(model_card(ModelFacts(record=record, file_bytes=5, result={})))
    assert "model-index" not in head


def test_names_cannot_leave_the_metadata(tiny_spec: SqueezeNetSpec) -> None:
    name = 'x"\n---\nlicense: mit\u2028: é'
    facts = dataclasses.replace(measured(small_record(tiny_spec, "a", "b", "c")), dataset=name)
    head, _ = head_and_body(model_card(facts))
    assert (
        head["license"] == "unknown"
        and "é" in head["model-index"][0]["results"][0]["dataset"]["name"]
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [("photos", "photos"), ("ylecun/mnist", "ylecun/mnist"), ("Meine Fotos!", "Meine-Fotos"),
     ("猫", ""), ("--", "")],
)  # fmt: skip
def test_names_of_data_sets(folder: str, name: str) -> None:
    assert dataset_name(folder) == name


def test_command(
    tiny_record: ModelRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed or written, with and without images; the accuracy is that of eval."""
    model, out = tmp_path / "m.sqz", tmp_path / "README.md"
    model.write_bytes(encode(random_model(compressed_record(tiny_record))))
    assert cli(["card", str(model)]) == 0
    head, _ = head_and_body(capsys.readouterr().out)
    assert results_of(head)["metrics"][0]["value"] == 0.885
    asked = ["--license", "cc-by-4.0", "--dataset", "sklearn/digits"]
    assert cli(["card", str(model), "digits", "--out", str(out), *asked]) == 0
    head, body = head_and_body(out.read_text(encoding="utf-8"))
    assert head["license"] == "cc-by-4.0" and head["datasets"] == ["sklearn/digits"]
    capsys.readouterr()
    assert cli(["eval", str(model), "digits", "--json"]) == 0
    top1 = json.loads(capsys.readouterr().out)["top1"]
    assert f"| top-1 | {top1:.2f}% " in body
    value = results_of(head)["metrics"][0]["value"]
    assert value == pytest.approx(top1 / 100, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--license", "my own"], "--license 'my own', expected an identifier"),
        (["--dataset", "a b"], "--dataset 'a b', expected NAME or OWNER/NAME"),
        (["--out", "card.txt"], "ending '.txt', expected .md"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert cli(["card", "default", *options]) == 2
    assert message in capsys.readouterr().err
