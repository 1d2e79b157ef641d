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
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import QualityError
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run_folder import RunFolder
from tests.compress.conftest import digit_images, job_of


def test_the_record_says_where_the_file_comes_from(model: LoadedModel) -> None:
    settings = RateDistortionSettings(divergence=0.02)
    record = run._file_record(model, settings, 7)
    assert not record.spec.batch_norm
    provenance = record.provenance
    assert (provenance["method"], provenance["seed"]) == ("rd", 7)
    assert provenance["settings"] == dataclasses.asdict(settings)
    assert provenance["source"] == model.record.provenance
    assert provenance["made_by"].startswith("squeezenet ")
    assert "source_sha256" not in provenance and "measured" not in provenance
    source: Any = SimpleNamespace(sha256="ab")
    read = dataclasses.replace(model, source=source)
    deep = run._file_record(read, DeepCompressionSettings(), 0).provenance
    assert (deep["source_sha256"], deep["method"]) == ("ab", "deep-compression")


def test_the_size_is_that_of_the_finished_file(
    model: LoadedModel, quantized: QuantizedNetwork, tmp_path: Path
) -> None:
    settings = RateDistortionSettings()
    record = run._file_record(model, settings, 0)
    layers = quantized.layers()
    predicted = run._file_size(record, settings, 200)(layers)
    job = job_of(model, tmp_path)
    compressed = run.CompressedModel(record=record, layers=layers)
    calibrated = run._calibrate(job, settings, compressed)
    assert calibrated.activations is not None
    measured = run._with_measured(
        record, 200, run.PLACEHOLDER_MEASUREMENT, run.PLACEHOLDER_COMPARISON
    )
    exact = len(encode(dataclasses.replace(calibrated, record=measured)))
    # But for the scales of the activations, of which the placeholder's take fewer bytes.
    assert abs(predicted - exact) <= 4 * len(calibrated.activations)
    deep = DeepCompressionSettings()
    assert run._calibrate(job, deep, compressed) is compressed
    assert run._file_size(record, deep, 200)(layers) < predicted


def test_measurements_are_rounded(model: LoadedModel) -> None:
    comparison = dataclasses.replace(run.PLACEHOLDER_COMPARISON, kl=0.123456, agreement=99.0)
    found = run._with_measured(model.record, 5, None, comparison).provenance
    assert found["measured"] == {"images": 5, "agreement": 99.0, "kl": 0.1235}
    assert {key: value for key, value in found.items() if key != "measured"} == (
        model.record.provenance
    )
    labelled = run._with_measured(model.record, 5, run.PLACEHOLDER_MEASUREMENT, comparison)
    assert labelled.provenance["measured"]["top1"] == 12.3456
    assert labelled.provenance["measured"]["top5"] == 78.9012


@pytest.mark.parametrize("settings", [RateDistortionSettings(), DeepCompressionSettings()])
def test_a_target_out_of_reach_leaves_no_work_folder(
    model: LoadedModel, tmp_path: Path, settings: run.Settings, monkeypatch: pytest.MonkeyPatch
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
    settings = run._work_settings(read, known, RateDistortionSettings(), recipe, 3)
    work = RunFolder(tmp_path / "x.sqz.work")
    work.open(settings, known)
    found = json.loads((work.path / "run.json").read_text())
    assert (found["source"], found["seed"], found["method"]) == ("ab", 3, "rd")
    assert found["data"] == known.summary
    assert found["architecture"] == model.record.spec.name
    assert found["settings"]["effort"] == "medium" and found["recipe"]["name"] == recipe.name
