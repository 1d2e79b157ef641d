"""Deep Compression, whole."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.codec import container
from squeezenet.compress.deep_compression import job as deep
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.run import compress_model
from squeezenet.data.digits import load_digits
from squeezenet.errors import (
    CheckpointError,
    InterruptedRunError,
    QualityError,
    SpecError,
    UsageError,
)
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run_folder import RunFolder
from tests.compress.conftest import digit_images, job_of, untrained_model


def run(out: Path, *, calib: bool = False, **options: Any) -> Any:
    model = untrained_model()
    settings = DeepCompressionSettings(
        **{"density": 0.5, "bits": 4, "prune_epochs": 0, "share_epochs": 0, **options}
    )
    images = digit_images(model, labelled=not calib)
    return compress_model(model, images, out, settings, recipe_named("digits"))


@pytest.mark.parametrize("calib", [False, True])
def test_whole_run(tmp_path: Path, calib: bool) -> None:
    out = tmp_path / "x.sqz"
    report = run(out, calib=calib, share_epochs=1)
    data = out.read_bytes()
    assert report.file_bytes == len(data) and report.method == "deep-compression"
    assert [row.stage for row in report.stages] == [
        "float32", "pruned", "shared", "huffman", "range coder",
    ]  # fmt: skip
    sizes = [row.bytes for row in report.stages]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[3] < sizes[1] and sizes[4] == len(data)
    assert report.stages[1].density == pytest.approx(50, abs=0.5)
    assert report.stages[2].bits_per_weight == 4
    assert all((row.top1 is None) == (calib or row.stage == "huffman") for row in report.stages)
    model = container.decode(data)
    assert model.activations is None  # codebooks are for float32
    provenance = model.record.provenance
    assert provenance["method"] == "deep-compression" and "source_sha256" not in provenance
    assert ("top1" in provenance["measured"]) == (not calib)
    assert all(len(layer.weights.codebook) <= 16 for layer in model.layers)
    assert sum(row.bytes for row in report.layers) < len(data)
    assert len(container.encode(model, "huffman")) == sizes[3]
    assert not (tmp_path / "x.sqz.work").exists()
    # What is compressed can be compressed again.
    assert from_compressed(model).record == model.record


def test_an_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "SCAN_IMAGES", 50)
    options = {"share_epochs": 1, "prune_epochs": 1, "density": None, "scan_budget": 5.0}
    run(tmp_path / "a.sqz", **options)
    shared = deep.SharedNetwork.forward
    steps: list[int] = []

    def killed(self: Any, x_NCHW: torch.Tensor) -> torch.Tensor:
        steps.append(len(x_NCHW))
        if len(steps) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return shared(self, x_NCHW)

    with monkeypatch.context() as patch:
        patch.setattr(deep.SharedNetwork, "forward", killed)
        with pytest.raises(InterruptedRunError):
            run(tmp_path / "b.sqz", **options)
    scans: list[int] = []
    scan = deep.scan_densities

    def counted(*arguments: Any, known: Any, **options: Any) -> Any:
        scans.append(len(known))
        return scan(*arguments, known=known, **options)

    monkeypatch.setattr(deep, "scan_densities", counted)
    run(tmp_path / "b.sqz", **options)
    assert scans == [len(build_graph(untrained_model().record.spec).convs)]
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_target_bytes(tmp_path: Path) -> None:
    free = run(tmp_path / "a.sqz", bits=8)
    report = run(tmp_path / "b.sqz", bits=8, target_bytes=free.file_bytes - 2500)
    assert free.file_bytes - 5000 < report.file_bytes <= free.file_bytes - 2500
    with pytest.raises(QualityError, match="--target-bytes 100: .* even with 2 bits per weight"):
        run(tmp_path / "c.sqz", target_bytes=100)
    assert not (tmp_path / "c.sqz.work").exists() and not (tmp_path / "c.sqz").exists()


def test_the_most_bits_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained_model()
    monkeypatch.setattr(deep, "share_network", lambda state, graph, bits: min(bits.values()))
    monkeypatch.setattr(deep, "round_floats", lambda layers: layers)
    job = job_of(model, tmp_path, file_bytes=lambda bits: 100 * bits)
    student, graph = fold_batch_norm(model), build_graph(model.record.spec)
    for target, bits in ((None, 6), (610, 6), (609, 5), (210, 2)):
        settings = DeepCompressionSettings(target_bytes=target)
        assert deep._cluster(job, settings, student, graph)[1] == bits
    with pytest.raises(QualityError, match="--target-bytes 209: 200 bytes even with 2 bits"):
        deep._cluster(job, DeepCompressionSettings(target_bytes=209), student, graph)


@pytest.mark.parametrize("labelled", [False, True])
def test_labels_teach_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    taught: list[Any] = []

    def retraining(**options: Any) -> None:
        taught.append(options["labelled"])
        raise QualityError("enough")

    model = untrained_model()
    job = job_of(model, tmp_path, images=digit_images(model, labelled=labelled))
    monkeypatch.setattr(deep, "Retraining", retraining)
    with pytest.raises(QualityError, match="enough"):
        deep.compress_deep(job, DeepCompressionSettings(density=0.5))
    assert taught == [job.images.retrain if labelled else None]


def test_recipes_of_the_stages(tmp_path: Path) -> None:
    job = job_of(untrained_model(), tmp_path)
    settings = DeepCompressionSettings(learning_rate=0.5)
    base, num_images = job.base_recipe, len(job.images.retrain)
    prune = deep.stage_recipe(base, num_images, settings, "prune", None)
    share = deep.stage_recipe(base, num_images, settings, "share", None)
    per_epoch = 934 / base.batch_size
    assert prune.epochs == math.ceil(500 / per_epoch) > 10
    assert share.epochs == math.ceil(300 / per_epoch) > 4
    assert (prune.learning_rate, share.learning_rate) == (0.5, 0.15)
    assert (prune.weight_decay, share.weight_decay) == (base.weight_decay, 0.0)
    assert prune.weight_decay > 0
    assert (prune.name, share.name) == ("deep-compression/prune", "deep-compression/share")
    assert deep.stage_recipe(base, num_images, settings, "prune", 3).epochs == 3
    small = dataclasses.replace(base, batch_size=1)
    assert deep.stage_recipe(small, num_images, settings, "prune", None).epochs == 10
    assert deep.stage_recipe(small, num_images, settings, "share", None).epochs == 4


def test_retraining_is_left_out_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(untrained_model(), tmp_path)
    trained: list[str] = []
    training: Any = type(
        "T", (), {"run": lambda self, module, recipe, folder, hold: trained.append(recipe.name)}
    )()
    module = torch.nn.Identity()
    for options, stages in (
        ({"prune_epochs": 0, "share_epochs": 2}, ["deep-compression/share"]),
        ({"prune_epochs": 2, "share_epochs": 0}, ["deep-compression/prune"]),
    ):
        settings = DeepCompressionSettings(**options)  # type: ignore[arg-type]
        job = dataclasses.replace(job, work=tmp_path / stages[0])
        job.work.mkdir(parents=True)
        for stage in ("prune", "share"):
            deep._retrain(job, settings, stage, training, module, None)
        assert trained == stages
        trained.clear()


def test_scan_images_have_labels_or_predictions(tmp_path: Path) -> None:
    model = untrained_model()
    labelled = job_of(model, tmp_path, images=digit_images(model, labelled=True))
    x_NCHW, targets = deep._scan_images(labelled, model)
    assert x_NCHW.shape == (1000, 1, 8, 8)
    order = np.random.default_rng(0).permutation(1167)[:1000]
    wanted = load_digits()["train"].labels[sorted(order.tolist())]
    np.testing.assert_array_equal(targets.numpy(), wanted)
    x_NCHW, targets = deep._scan_images(job_of(model, tmp_path), model)
    assert len(x_NCHW) == 934
    np.testing.assert_array_equal(targets, model.logits(x_NCHW.numpy()).argmax(axis=1))


def test_densities_are_scanned_for_unless_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fold_batch_norm(untrained_model())
    graph, job = build_graph(model.record.spec), job_of(model, tmp_path)
    monkeypatch.setattr(deep, "scan_densities", lambda *a, **options: options["budget"])
    assert deep._densities(job, DeepCompressionSettings(scan_budget=0.25), model, graph) == 0.25
    some = DeepCompressionSettings(densities={"conv1": 0.5})
    assert deep._densities(job, some, model, graph)["conv1"] == 0.5
    assert sum(deep._densities(job, some, model, graph).values()) == len(graph.convs) - 0.5
    every = deep._densities(job, DeepCompressionSettings(density=0.5), model, graph)
    assert set(every) == {conv.name for conv in graph.convs} and min(every.values()) < 1


def test_work_folder_of_other_settings(tmp_path: Path) -> None:
    work = tmp_path / "x.sqz.work"
    RunFolder(work).open({"method": "other"})
    with pytest.raises(CheckpointError, match=r"x\.sqz\.work: holds a run with"):
        run(tmp_path / "x.sqz")


def test_layers_have_their_own_bits(tmp_path: Path) -> None:
    report = run(tmp_path / "a.sqz", bits=3, layer_bits={"conv1": 8, "conv10": 2})
    model = container.decode((tmp_path / "a.sqz").read_bytes())
    layers = {layer.name: layer for layer in model.layers}
    sizes = {name: layer.weights.side_values.size for name, layer in layers.items()}
    assert sizes["conv10"] <= 4 and 8 < sizes["conv1"] <= 256
    assert all(size <= 8 for name, size in sizes.items() if name != "conv1")
    shared = next(row for row in report.stages if row.stage == "shared")
    assert 2 < shared.bits_per_weight < 8 and shared.bits_per_weight != 3
    with pytest.raises(UsageError, match="bits for 'fc6': no such layer; expected conv1, "):
        run(tmp_path / "b.sqz", layer_bits={"fc6": 5})
    with pytest.raises(SpecError, match="conv1: 9 bits per weight, expected 2 to 8"):
        DeepCompressionSettings(layer_bits={"conv1": 9})
