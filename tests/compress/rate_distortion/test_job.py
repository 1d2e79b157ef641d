"""Method rd: the search for levels, gains moved together, and whole runs."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import squeezenet.compress.rate_distortion.job as rd
from squeezenet.arch.graph import build_graph
from squeezenet.codec import container
from squeezenet.codec.types import CompressedModel, LevelWeights
from squeezenet.compress import retrain
from squeezenet.compress.calibrate import calibrated
from squeezenet.compress.images import open_compression_images
from squeezenet.compress.rate_distortion.curvature import measure_curvature
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.level_search import LevelSearch, NetworkLevels
from squeezenet.compress.rate_distortion.partly_rounded import PartRounded
from squeezenet.compress.rate_distortion.scale_bias_correction import measure_gains
from squeezenet.compress.rate_distortion.settings import EFFORTS, RateDistortionSettings, Work
from squeezenet.compress.rate_distortion.trellis_rounding import NARROW, Breadth
from squeezenet.compress.run import CompressionReport, compress_model
from squeezenet.data.digits import load_digits
from squeezenet.data.sources import open_training_data
from squeezenet.errors import InterruptedRunError, QualityError
from squeezenet.evaluation.metrics import compare
from squeezenet.evaluation.predict import predict
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels, normalise
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import SilentProgress
from squeezenet.reference.integer_interpreter import accumulate, quantise_input, requantise
from squeezenet.reference.integer_parameters import integer_parameters
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import Hardware
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run import train_run
from squeezenet.train.start import NetworkChoice, new_model

OPTIONS = FitOptions(hardware=Hardware(device=torch.device("cpu"), bfloat16=False))
TWO = Breadth(paths=2, steps=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """squeezenet_tiny after six epochs of digits, which it half knows."""
    data = open_training_data("digits")
    recipe = dataclasses.replace(recipe_named("digits"), epochs=6)
    found = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, 0)
    train_run(found, data, recipe, tmp_path_factory.mktemp("rd") / "run", options=OPTIONS)
    return found


def search_of(model: LoadedModel) -> tuple[LoadedModel, LevelSearch]:
    folded = fold_batch_norm(model)
    graph = build_graph(folded.record.spec)
    state = folded.module.state_dict()
    weights = {
        c.name: (state[f"{c.key}.weight"].numpy(), state[f"{c.key}.bias"].numpy())
        for c in graph.convs
    }
    batches = EvalBatches(load_digits()["train"], folded.record.preprocessing, workers=0)
    curvatures = measure_curvature(folded, graph, batches, seed=0)
    return folded, LevelSearch(graph, weights, curvatures)


def divergence(folded: LoadedModel, search: LevelSearch, found: NetworkLevels) -> float:
    layers = search.compressed(found, search.price_of(0.05))
    rounded = from_compressed(CompressedModel(record=folded.record, layers=layers))
    batches = EvalBatches(load_digits()["test"], folded.record.preprocessing, workers=0)
    answers = [
        predict(from_pixels(m.logits, folded.record.preprocessing), folded.record, batches)
        for m in (rounded, folded)
    ]
    return compare(*answers).kl


def test_finer_levels_diverge_less_and_gains_mend(model: LoadedModel) -> None:
    folded, search = search_of(model)
    coarse, fine = (search.start(search.price_of(d), TWO) for d in (0.3, 0.003))
    assert search.divergence(fine) < search.divergence(coarse) / 20
    before = divergence(folded, search, coarse)
    assert divergence(folded, search, fine) < before / 10
    graph = build_graph(folded.record.spec)
    batches = EvalBatches(load_digits()["train"], folded.record.preprocessing, workers=0)
    layers = search.compressed(coarse, search.price_of(0.05))
    student = from_compressed(CompressedModel(record=folded.record, layers=layers))
    gains = measure_gains(
        student,
        folded,
        graph,
        batches,
        seed=0,
        progress=SilentProgress(),
        title="x",
        check=lambda: None,
    )
    assert gains is not None
    moved = gains.moved(coarse, 10.0)
    assert divergence(folded, search, moved) < before
    for name, layer in moved.items():
        np.testing.assert_array_equal(layer.levels_OP, coarse[name].levels_OP)


def test_a_network_that_is_rounded_in_part(model: LoadedModel) -> None:
    folded, search = search_of(model)
    graph = build_graph(folded.record.spec)
    price = search.price_of(0.05)
    found = search.start(price, TWO)
    layers = search.compressed(found, price)
    rounded = from_compressed(CompressedModel(record=folded.record, layers=layers))
    x_NCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for whole, wanted in ((True, rounded), (False, folded)):
        outputs = {name: np.full(len(x.scales_O), whole) for name, x in found.items()}
        network = PartRounded(folded.module, graph, layers, found, outputs, search.weights)
        torch.testing.assert_close(network(x_NCHW), wanted.module.eval()(x_NCHW))
    half = {name: np.arange(len(x.scales_O)) % 2 == 0 for name, x in found.items()}
    pruned = {
        name: (weight * (np.arange(weight[0].size) % 3 > 0).reshape(weight[0].shape), bias)
        for name, (weight, bias) in search.weights.items()
    }
    network = PartRounded(folded.module, graph, layers, found, half, pruned)
    network(x_NCHW).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter -= torch.randn(parameter.shape)
    network.hold()
    weights = network.weights()
    for conv in graph.convs:
        weight_OP = weights[conv.name][0].reshape(conv.out_channels, -1)
        same_O = (np.abs(weight_OP - found[conv.name].weight_OP) < 1e-6).all(axis=1)
        np.testing.assert_array_equal(same_O, half[conv.name])
        free_OP = weight_OP[~half[conv.name]]
        assert not free_OP[:, ::3].any()
        assert free_OP[:, 1::3].all() and free_OP[:, 2::3].all()
    again = search.of_weights(weights).start(1.1 * price, TWO, (found, half))
    for name, outputs in half.items():
        assert (again[name].codes_OP[outputs] == found[name].codes_OP[outputs]).all()
        assert (again[name].scales_O[outputs] == found[name].scales_O[outputs]).all()
        assert (again[name].codes_OP != found[name].codes_OP).any()


def test_rounded_activations(model: LoadedModel) -> None:
    """Nearly all bytes behind the first convolution are those of the integer interpreter; further
    on, what one byte differs by is another noise of the same size."""
    folded, search = search_of(model)
    price = search.price_of(0.01)
    layers = search.compressed(search.start(price, TWO), price)
    batches = EvalBatches(load_digits()["test"], folded.record.preprocessing, workers=0)
    file = calibrated(CompressedModel(record=folded.record, layers=layers), batches)
    assert file.activations is not None
    graph, module = build_graph(folded.record.spec), from_compressed(file).module.eval()
    first = graph.convs[0]
    scale = file.activations[first.target]
    parameters = integer_parameters(file)
    pixels_HWC = next(iter(batches)).pixels_NHWC[0]
    x_CHW = quantise_input(pixels_HWC, parameters.input)
    conv = parameters.convs[first.name]
    exact_OP = accumulate(x_CHW, parameters.padding[first.source], conv, first)
    wanted = requantise(exact_OP, conv).ravel()

    x_NCHW = torch.from_numpy(normalise(pixels_HWC[None], folded.record.preprocessing))
    before = module(x_NCHW)
    found: list[torch.Tensor] = []
    with rounded_activations(module, graph, file.activations):
        handle = module.get_submodule(first.key).register_forward_hook(
            lambda layer, inputs, out: found.append(out.detach())
        )
        assert not torch.equal(module(x_NCHW), before)
        handle.remove()
    assert torch.equal(module(x_NCHW), before)
    levels = found[0].numpy().ravel() / scale.scale + scale.zero_point
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    difference = np.abs(np.rint(levels) - wanted)
    assert difference.max() <= 1
    # At the border, padding is a byte that need not be what stands for 0 (spec/INTEGER.md).
    tensor = graph.tensors[first.target]
    inner_CHW = difference.reshape(-1, tensor.height, tensor.width)[:, 1:-1, 1:-1]
    assert inner_CHW.mean() < 0.02


def run(
    model: LoadedModel, out: Path, *, calib: bool = True, **options: object
) -> CompressionReport:
    which: dict[str, str | None] = {"data": None, "calib": None, "val": None}
    which["calib" if calib else "data"] = "digits"
    images = open_compression_images(model.record, seed=0, **which)
    settings = RateDistortionSettings(**{"effort": "low", **options})
    recipe = recipe_named("digits")
    return compress_model(
        model, images, out, settings, recipe, options=OPTIONS,
        max_drop=settings.max_drop,
    )  # fmt: skip


@pytest.mark.parametrize("calib", [False, True])
def test_whole_run(
    model: LoadedModel, tmp_path: Path, calib: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.sqz"
    brief = Work(curvature_images=2000, breadth=NARROW, passes=2, pass_images=1000, tuning_steps=40)
    monkeypatch.setitem(EFFORTS, "high", brief)
    report = run(model, out, calib=calib, effort="high")
    assert [row.stage for row in report.stages] == [
        "float32",
        "rounded",
        "adjusted",
        "tuned",
        "range coder",
    ]
    assert report.file_bytes == out.stat().st_size < report.original_bytes / 8
    assert report.comparison.kl < 0.3
    adjusted, tuned = report.stages[2:4]
    assert tuned.bytes == pytest.approx(adjusted.bytes, rel=0.02)
    assert (report.stages[-1].top1 is None) == calib
    found = container.decode(out.read_bytes())
    for i, layer in enumerate(found.layers):
        assert isinstance(layer.weights, LevelWeights)
        assert layer.weights.trellis == (i > 0)
    provenance = found.record.provenance
    assert provenance["method"] == "rd" and provenance["settings"]["effort"] == "high"
    assert not (tmp_path / "x.sqz.work").exists()


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Work(curvature_images=2000, breadth=NARROW, passes=2, pass_images=1000, tuning_steps=80)
    monkeypatch.setitem(EFFORTS, "medium", brief)
    run(model, tmp_path / "a.sqz", effort="medium")
    are_rounded: list[bool] = []

    def stopped(job: rd._Job, stop: object) -> None:
        are_rounded.append((job.job.work / "levels.npz").is_file())
        # At the first batch of the curvature, and at the second of the gains.
        if len(are_rounded) == 1 or (are_rounded[-1] and are_rounded.count(True) == 2):
            raise InterruptedRunError("stopped", signal.SIGTERM)

    monkeypatch.setattr(rd._Job, "_stop", stopped)
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            run(model, tmp_path / "b.sqz", effort="medium")

    hold, held = PartRounded.hold, []

    def terminated(network: PartRounded) -> None:
        hold(network)
        held.append(network)
        if len(held) == 50:  # 32 steps of the first part, and 18 of the second
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(PartRounded, "hold", terminated)
        with pytest.raises(InterruptedRunError, match="step 18 of 24"):
            run(model, tmp_path / "b.sqz", effort="medium")
    run(model, tmp_path / "b.sqz", effort="medium")
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_what_rounding_would_zero_is_pruned_first(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Work(
        curvature_images=500,
        breadth=NARROW,
        passes=1,
        pass_images=500,
        tuning_steps=20,
        retrain_steps=40,
    )
    monkeypatch.setitem(EFFORTS, "high", brief)
    few = run(model, tmp_path / "few.sqz", calib=False, effort="high", target_bytes=6000)
    assert "pruned" not in [row.stage for row in few.stages]
    monkeypatch.setattr(rd, "MANY_IMAGES", 100)
    out = tmp_path / "a.sqz"
    report = run(model, out, calib=False, effort="high", target_bytes=6000)
    stages = [row.stage for row in report.stages]
    assert stages == ["float32", "pruned", "rounded", "adjusted", "range coder"]
    assert report.stages[2].density <= report.stages[1].density < 90
    assert report.file_bytes <= 6000

    # Killed while it retrains, it goes on to the same bytes.
    holder, held = retrain.mask_holder, []

    def stops(*arguments: Any) -> retrain.Hold:
        hold = holder(*arguments)

        def counted(module: torch.nn.Module) -> None:
            hold(module)
            held.append(module)
            if len(held) == 20:
                os.kill(os.getpid(), signal.SIGTERM)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(retrain, "mask_holder", stops)
        with pytest.raises(InterruptedRunError):
            run(model, tmp_path / "b.sqz", calib=False, effort="high", target_bytes=6000)
    run(model, tmp_path / "b.sqz", calib=False, effort="high", target_bytes=6000)
    assert out.read_bytes() == (tmp_path / "b.sqz").read_bytes()
    # Without labels nothing is pruned, however many images there are.
    calib = run(model, tmp_path / "c.sqz", effort="high", target_bytes=6000)
    assert "pruned" not in [row.stage for row in calib.stages]


def test_search_by_bytes_and_by_drop(model: LoadedModel, tmp_path: Path) -> None:
    small = run(model, tmp_path / "a.sqz", target_bytes=4500)
    large = run(model, tmp_path / "b.sqz", target_bytes=8000)
    assert 3500 < small.file_bytes <= 4500 < 7000 < large.file_bytes <= 8000
    assert large.comparison.kl < small.comparison.kl
    strict = run(model, tmp_path / "c.sqz", max_drop=2.0)
    loose = run(model, tmp_path / "d.sqz", max_drop=20.0)
    assert strict.file_bytes > loose.file_bytes
    with pytest.raises(QualityError, match="--target-bytes 100 cannot be reached"):
        run(model, tmp_path / "e.sqz", target_bytes=100)
    assert not (tmp_path / "e.sqz").exists()
