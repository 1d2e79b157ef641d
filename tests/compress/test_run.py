"""From settings to a file: its record, its predicted size, and the folder of its work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squeezenet.codec.container import encode
from squeezenet.compress import run
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.file_record import (
    PLACEHOLDER_CALIBRATION,
    PLACEHOLDER_COMPARISON,
    PLACEHOLDER_MEASUREMENT,
    Settings,
    file_record,
    file_size,
    with_measured,
)
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import QualityError
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run_folder import RunFolder
from tests.compress.conftest import digit_images, job_of


def test_the_record_says_where_the_file_comes_from(model: LoadedModel) -> None:
    settings = RateDistortionSettings(divergence=0.02)
    record = file_record(model, settings, 7)
    assert not record.spec.batch_norm
    provenance = record.provenance
    assert (provenance["method"], provenance["seed"]) == ("rd", 7)
    assert provenance["settings"] == dataclasses.asdict(settings)
    assert provenance["source"] == model.record.provenance
    assert provenance["made_by"].startswith("squeezenet ")
    assert "source_sha256" not in provenance and "measured" not in provenance
    source: Any = SimpleNamespace(sha256="ab")
    read = dataclasses.replace(model, source=source)
    deep = file_record(read, DeepCompressionSettings(), 0).provenance
    assert (deep["source_sha256"], deep["method"]) == ("ab", "deep-compression")


def test_the_size_is_that_of_the_finished_file(
    model: LoadedModel, quantized: QuantizedNetwork, tmp_path: Path
) -> None:
    settings = RateDistortionSettings()
    record = file_record(model, settings, 0)
    layers = quantized.layers()
    predicted = file_size(record, settings, 200)(layers)
    job = job_of(model, tmp_path)
    compressed = run.CompressedModel(record=record, layers=layers)
    calibrated = run._calibrate(job, settings, compressed)
    assert calibrated.activations is not None
    measured = with_measured(record, 200, PLACEHOLDER_MEASUREMENT, PLACEHOLDER_COMPARISON)
    exact = len(encode(dataclasses.replace(calibrated, record=measured)))
    # But for the scales of the activations, of which the placeholder's take fewer bytes.
    assert abs(predicted - exact) <= 4 * len(calibrated.activations)
    deep = DeepCompressionSettings()
    assert run._calibrate(job, deep, compressed) is compressed
    assert file_size(record, deep, 200)(layers) < predicted


def test_measurements_are_rounded(model: LoadedModel) -> None:
    comparison = dataclasses.replace(PLACEHOLDER_COMPARISON, kl=0.123456, agreement=99.0)
    found = with_measured(model.record, 5, None, comparison).provenance
    assert found["measured"] == {"images": 5, "agreement": 99.0, "kl": 0.1235}
    assert {key: value for key, value in found.items() if key != "measured"} == (
        model.record.provenance
    )
    labelled = with_measured(model.record, 5, PLACEHOLDER_MEASUREMENT, comparison)
    assert labelled.provenance["measured"]["top1"] == 12.3456
    assert labelled.provenance["measured"]["top5"] == 78.9012
    assert "ece" not in labelled.provenance["measured"]
    calibrated = with_measured(
        model.record, 5, PLACEHOLDER_MEASUREMENT, comparison, PLACEHOLDER_CALIBRATION
    ).provenance["measured"]
    assert (calibrated["ece_before"], calibrated["ece"]) == (5.6781, 9.2346)


def test_temperatures_multiply_along_the_sources(model: LoadedModel) -> None:
    settings = RateDistortionSettings()
    assert file_record(model, settings, 0, 1.5).provenance["temperature"] == 1.5
    record = dataclasses.replace(model.record, provenance={"temperature": 1.5})
    again = dataclasses.replace(model, record=record)
    assert file_record(again, settings, 0, 2.0).provenance["temperature"] == 3.0
    assert file_record(again, settings, 0).provenance["temperature"] == 1.5
    assert "temperature" not in file_record(model, settings, 0).provenance


@pytest.mark.parametrize("settings", [RateDistortionSettings(), DeepCompressionSettings()])
def test_a_target_out_of_reach_leaves_no_work_folder(
    model: LoadedModel,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(job: object, given: object) -> None:
        assert given is settings
        raise QualityError("no")

    name = "compress_rate_distortion"
    if isinstance(settings, DeepCompressionSettings):
        name = "compress_deep"
    monkeypatch.setattr(run, name, refuse)
    out = tmp_path / "x.sqz"
    with pytest.raises(QualityError, match="no"):
        run.compress_model(model, digit_images(model), out, settings, recipe_named("digits"))
    assert not list(tmp_path.iterdir())


def test_the_work_folder_knows_its_job(model: LoadedModel, tmp_path: Path) -> None:
    images = digit_images(model)
    source: Any = SimpleNamespace(sha256="ab")
    read = dataclasses.replace(model, source=source)
    recipe, known = recipe_named("digits"), images.fingerprint()
    settings = run._work_settings(
        read, known, RateDistortionSettings(), recipe, 3, temperature=False
    )
    work = RunFolder(tmp_path / "x.sqz.work")
    work.open(settings, known)
    found = json.loads((work.path / "run.json").read_text())
    assert (found["source"], found["seed"], found["method"]) == ("ab", 3, "rd")
    assert found["data"] == known.summary
    assert found["architecture"] == model.record.spec.name
    assert found["temperature"] is False
    assert found["settings"]["effort"] == "medium" and found["recipe"]["name"] == recipe.name
