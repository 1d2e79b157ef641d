"""Deep Compression, a step at a time and whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from squeezenet.arch.graph import build_graph
from squeezenet.codec import container
from squeezenet.codec.types import CodebookWeights
from squeezenet.compress.deep_compression.sensitivity import DENSITIES, scan_densities
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.deep_compression.weight_sharing import (
    SharedNetwork,
    kmeans_linear,
    share_layer,
    share_network,
)
from squeezenet.compress.distill import distillation
from squeezenet.compress.images import open_compression_images
from squeezenet.compress.prune import (
    lamp_densities,
    layer_densities,
    magnitude_mask,
    magnitude_masks,
    mask_holder,
)
from squeezenet.compress.run import compress_model
from squeezenet.errors import CheckpointError, QualityError, SpecError, UsageError
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import SilentProgress
from squeezenet.train.recipe import recipe_named
from tests.model import test_model


def tiny_model() -> LoadedModel:
    """An untrained network with the digits' classes."""
    model = test_model.tiny_model()
    names = tuple(str(digit) for digit in range(10))
    return dataclasses.replace(model, record=dataclasses.replace(model.record, class_names=names))


def test_magnitude_mask() -> None:
    weight = torch.tensor([0.5, -3.0, 0.0, 2.0, -2.0, 0.1]).reshape(2, 3, 1, 1)
    assert magnitude_mask(weight, 0.5).flatten().tolist() == [False, True, False, True, True, False]
    assert magnitude_mask(weight, 1.0).sum() == 5  # a zero is never kept
    assert magnitude_mask(weight, 1e-9).sum() == 1


def test_densities_by_layer() -> None:
    model = tiny_model()
    graph = build_graph(model.record.spec)
    densities = layer_densities(model.module, graph, 0.4, {"conv1": 0.9})
    assert densities["conv1"] == 0.9
    kept = {conv.name: densities[conv.name] * conv.num_weights for conv in graph.convs}
    others = sum(conv.num_weights for conv in graph.convs) - graph.convs[0].num_weights
    assert sum(kept.values()) - kept["conv1"] == pytest.approx(0.4 * others, abs=1)
    assert set(layer_densities(model.module, graph, None, {}).values()) == {1.0}
    with pytest.raises(UsageError, match="'conv9': no such layer; expected conv1"):
        layer_densities(model.module, graph, None, {"conv9": 0.5})
    with pytest.raises(UsageError, match="density of conv1 is 0"):
        layer_densities(model.module, graph, None, {"conv1": 0.0})


def test_lamp_by_hand() -> None:
    # Scores of (1, 2) are 1/5 and 1, of (3, 4) 9/25 and 1; a common factor changes nothing.
    weights = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([300.0, 400.0])}
    assert lamp_densities(weights, 0.75) == {"a": 0.5, "b": 1.0}
    assert lamp_densities(weights, 0.5) == {"a": 0.5, "b": 0.5}
    assert lamp_densities({"a": torch.zeros(4), "b": torch.ones(4)}, 0.5)["b"] == 1.0


def test_masks_hold() -> None:
    model = fold_batch_norm(tiny_model())
    graph = build_graph(model.record.spec)
    densities = {conv.name: 0.25 for conv in graph.convs}
    masks = magnitude_masks(model.module, graph, densities)
    hold = mask_holder(graph, masks)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(1)
    hold(model.module)
    for conv in graph.convs:
        weight = model.module.state_dict()[f"{conv.key}.weight"]
        assert int((weight != 0).sum()) == round(0.25 * conv.num_weights)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=200), st.integers(1, 31))
@settings(deadline=None)
def test_kmeans(values: list[float], clusters: int) -> None:
    array = np.array(values)
    centroids = kmeans_linear(array, clusters)
    assert 1 <= len(centroids) <= clusters and (np.diff(centroids) > 0).all()
    nearest = np.abs(array[:, None] - centroids).argmin(axis=1)
    error = ((array - centroids[nearest]) ** 2).sum()
    start = np.linspace(array.min(), array.max(), clusters)
    assert error <= ((array[:, None] - start) ** 2).min(axis=1).sum() + 1e-9


def test_sharing_few_values_is_exact() -> None:
    weight = np.array([0, 1, -2, 3, 1, 0, 3, 3], np.float32).reshape(2, 4, 1, 1)
    shared = share_layer(weight, bits=5)
    np.testing.assert_allclose(shared.dequantize(), weight, atol=1e-6)
    assert (shared.codes_OIHW == 0).sum() == 2
    assert share_layer(np.zeros((2, 2, 1, 1), np.float32), 4).codebook.tolist() == [0.0]


def test_centroid_gradient_is_the_sum_over_its_weights() -> None:
    model = fold_batch_norm(tiny_model())
    graph = build_graph(model.record.spec)
    layers = share_network(model.module.state_dict(), graph, 3)
    shared = SharedNetwork(model.module, graph, layers)
    x = torch.randn(4, 1, 8, 8)
    shared.eval()(x).square().sum().backward()
    state = {k: v.clone().requires_grad_() for k, v in from_compressed_state(shared, graph).items()}
    functional_call(model.module.eval(), state, (x,)).square().sum().backward()
    for conv, layer in zip(graph.convs, layers, strict=True):
        assert isinstance(layer.weights, CodebookWeights)
        codes = torch.from_numpy(layer.weights.codes_OIHW.astype(np.int64))
        gradient = state[f"{conv.key}.weight"].grad
        assert gradient is not None
        offsets = shared.offsets[conv.key.replace(".", "/")].grad
        assert offsets is not None
        for k in range(1, len(layer.weights.codebook)):
            members = gradient[codes == k]
            expected = members.sum() / max(1, len(members)) ** 0.5
            torch.testing.assert_close(offsets[k], expected, rtol=1e-3, atol=1e-3)
        assert offsets[0] == 0


def from_compressed_state(shared: SharedNetwork, graph: object) -> dict[str, torch.Tensor]:
    return {
        f"{conv.key}.{part}": torch.from_numpy(value)
        for conv, layer in zip(graph.convs, shared.layers(), strict=True)
        for part, value in (("weight", layer.weights.dequantize()), ("bias", layer.bias_O.copy()))
    }


def test_scan_keeps_what_matters() -> None:
    model = fold_batch_norm(tiny_model())
    graph = build_graph(model.record.spec)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    x = torch.randn(64, 1, 8, 8)
    targets = torch.from_numpy(model.logits(x.numpy())).argmax(dim=1)
    strict = scan_densities(model, graph, x, targets, budget=0.0, progress=SilentProgress())
    loose = scan_densities(model, graph, x, targets, budget=100.0, progress=SilentProgress())
    assert set(loose.values()) == {DENSITIES[0]}
    assert all(strict[name] >= loose[name] for name in strict) and max(strict.values()) > 0.3
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, before[key])  # the scan leaves the model as it was


def test_distillation_is_zero_for_the_teacher() -> None:
    model = fold_batch_norm(tiny_model())
    x, labels = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    loss = distillation(model, 2.0)
    own = model.module(x)
    assert float(loss(own, x, labels).detach()) == pytest.approx(0, abs=1e-6)
    assert float(loss(own.flip(1) * 3, x, labels).detach()) > 0.01


def test_settings_are_checked() -> None:
    with pytest.raises(SpecError, match="9 bits a code"):
        DeepCompressionSettings(bits=9)
    with pytest.raises(SpecError, match="prune_epochs is -1"):
        DeepCompressionSettings(prune_epochs=-1)


def run(out: Path, *, calib: bool = False, **options: object):
    model = tiny_model()
    which: dict[str, str | None] = {"data": None, "calib": None, "val": None}
    which["calib" if calib else "data"] = "digits"
    images = open_compression_images(model.record, seed=0, **which)
    settings = DeepCompressionSettings(
        **{"density": 0.5, "bits": 4, "prune_epochs": 0, "share_epochs": 0, **options}
    )
    recipe = recipe_named("digits")
    return model, compress_model(model, images, out, settings, recipe)


@pytest.mark.parametrize("calib", [False, True])
def test_whole_run(tmp_path: Path, calib: bool) -> None:
    out = tmp_path / "x.sqz"
    _, report = run(out, calib=calib, share_epochs=1)
    data = out.read_bytes()
    assert report.file_bytes == len(data)
    assert [row.stage for row in report.stages] == [
        "float32",
        "pruned",
        "shared",
        "huffman",
        "range coder",
    ]
    sizes = [row.bytes for row in report.stages]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[3] < sizes[1]
    assert report.stages[1].density == pytest.approx(50, abs=0.5)
    assert (report.stages[0].top1 is None) == calib
    model = container.decode(data)
    provenance = model.record.provenance
    assert provenance["method"] == "deep-compression" and "source_sha256" not in provenance
    assert ("top1" in provenance["measured"]) == (not calib)
    assert all(len(layer.weights.codebook) <= 16 for layer in model.layers)
    assert sum(row.bytes for row in report.layers) < len(data)
    assert not (tmp_path / "x.sqz.work").exists()


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.sqz", "b.sqz"):
        run(tmp_path / name, share_epochs=1, prune_epochs=1)
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_target_bytes(tmp_path: Path) -> None:
    _, free = run(tmp_path / "a.sqz", bits=8)
    _, report = run(tmp_path / "b.sqz", bits=8, target_bytes=free.file_bytes - 2500)
    assert report.file_bytes <= free.file_bytes - 2500
    with pytest.raises(QualityError, match="--target-bytes 100: .* even with 2 bits"):
        run(tmp_path / "c.sqz", target_bytes=100)


def test_max_drop(tmp_path: Path) -> None:
    _, report = run(tmp_path / "x.sqz", bits=2, density=0.05)
    assert dataclasses.replace(report, max_drop=100.0).require_quality() is None
    with pytest.raises(QualityError, match="the file is written, but"):
        dataclasses.replace(report, max_drop=-100.0).require_quality()


def test_work_folder_of_other_settings(tmp_path: Path) -> None:
    work = tmp_path / "x.sqz.work"
    work.mkdir()
    (work / "run.json").write_text(json.dumps({"method": "other"}))
    with pytest.raises(CheckpointError, match=r"x\.sqz\.work: holds a run with"):
        run(tmp_path / "x.sqz")


def test_data_or_calib() -> None:
    record = tiny_model().record
    for which in ({"data": None, "calib": None}, {"data": "digits", "calib": "digits"}):
        with pytest.raises(UsageError, match="either --data DATA"):
            open_compression_images(record, val=None, seed=0, **which)


def test_a_compressed_model_compresses_again(tmp_path: Path) -> None:
    run(tmp_path / "x.sqz")
    model = container.decode((tmp_path / "x.sqz").read_bytes())
    assert from_compressed(model).record == model.record
