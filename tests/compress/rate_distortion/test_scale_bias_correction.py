"""Scale and bias correction: its gradients, its step, and that it lowers the divergence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import Graph
from squeezenet.codec.numerics import round_scales
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.rate_distortion.curvature import draw_score
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.scale_bias_correction import (
    DAMPINGS,
    MAX_SCALE_CHANGE,
    ScaleBiasCorrection,
    damping_units,
    gauss_newton_step,
    measure_correction,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST
from squeezenet.evaluation.metrics import kl_divergence
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.images.sets import ArrayImages
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.progress import SilentProgress
from tests.compress.conftest import CountedProgress, digit_batches
from tests.compress.rate_distortion.test_level_search import measured_divergence


def measured(
    folded: LoadedModel, network: QuantizedNetwork, graph: Graph, count: int
) -> tuple[LoadedModel, ScaleBiasCorrection]:
    student = from_compressed(CompressedModel(record=folded.record, layers=network.layers()))
    progress = CountedProgress()
    correction = measure_correction(
        student, folded, graph, digit_batches(folded, "train", count), seed=0,
        progress=progress, title="x", check=lambda: None,
    )  # fmt: skip
    assert correction is not None
    assert progress.totals == progress.advanced == [count]
    return student, correction


def test_correction_lowers_the_divergence(
    folded: LoadedModel, search: LevelSearch, graph: Graph
) -> None:
    coarse = search.round(search.lambda_for(0.3), NARROWEST)
    before = measured_divergence(folded, coarse)
    _, correction = measured(folded, coarse, graph, 400)
    found = correction.corrected(coarse, 10.0)
    assert measured_divergence(folded, found) < 0.9 * before
    assert found.lambda_ == coarse.lambda_
    for name, layer in found.levels.items():
        np.testing.assert_array_equal(layer.levels_OP, coarse.levels[name].levels_OP)
        np.testing.assert_array_equal(layer.scales_O, round_scales(layer.scales_O))
    assert tuple(sorted(DAMPINGS)) == DAMPINGS


def test_slope_and_rows_are_gradients(
    folded: LoadedModel, search: LevelSearch, graph: Graph
) -> None:
    coarse = search.round(search.lambda_for(0.3), NARROWEST)
    # Outputs that are rounded away stand on the edge of their ReLU; biases move them off it.
    levels = {
        name: dataclasses.replace(layer, bias_O=layer.bias_O + 0.01)
        for name, layer in coarse.levels.items()
    }
    network = QuantizedNetwork(levels=levels, lambda_=1e-9)
    student, correction = measured(folded, network, graph, 40)
    x_NCHW = np.concatenate(
        [
            normalise(b.pixels_NHWC, folded.record.preprocessing)
            for b in digit_batches(folded, "train", 40)
        ]
    )
    reference_NK = folded.logits(x_NCHW)

    def mean_divergence(model: LoadedModel) -> float:
        return float(kl_divergence(reference_NK, model.logits(x_NCHW)).mean())

    assert correction.divergence == pytest.approx(mean_divergence(student), rel=1e-4)
    num_unknowns = 2 * sum(conv.out_channels for conv in graph.convs)
    assert correction.rows_NT.shape == (40, num_unknowns)
    # By finite differences, along a random direction in each layer's scales and biases.
    rng, start = np.random.default_rng(0), 0
    for conv in graph.convs:
        for part in ("scale", "bias"):
            stop = start + conv.out_channels
            direction_O = rng.normal(size=conv.out_channels)
            found = []
            for step in (1e-3, -1e-3):
                moved = copy_model(student)
                layer = moved.module.get_submodule(conv.key)
                with torch.no_grad():
                    change_O = torch.from_numpy(step * direction_O).float()
                    if part == "scale":
                        layer.weight *= (1 + change_O)[:, None, None, None]
                    else:
                        layer.bias += change_O
                found.append(mean_divergence(moved))
            slope = (found[0] - found[1]) / 2e-3
            wanted = correction.slope_T[start:stop] @ direction_O
            assert slope == pytest.approx(wanted, rel=0.1, abs=0.02), (conv.name, part)
            start = stop

    # Rows are gradients of the drawn scores; the last bias is the sum over positions.
    generator = torch.Generator().manual_seed(0)
    module, rows = student.module, []
    head = module.get_submodule(graph.convs[-1].key)
    for part in (x_NCHW[:32], x_NCHW[32:]):
        logits_NK = module(torch.from_numpy(part))
        scores_NK = draw_score(logits_NK.detach(), generator)
        for n in range(len(part)):
            output_K = module(torch.from_numpy(part[n : n + 1]))[0]
            (gradient_O,) = torch.autograd.grad(output_K @ scores_NK[n], [head.bias])
            rows.append(gradient_O.numpy())
    np.testing.assert_allclose(
        correction.rows_NT[:, -len(rows[0]) :], np.array(rows), rtol=1e-3, atol=1e-5
    )


def test_the_step_minimises_the_damped_model() -> None:
    rng = np.random.default_rng(0)
    rows_NT, slope_T = rng.normal(size=(5, 8)), rng.normal(size=8)
    unit_T = rng.uniform(0.5, 2, 8)
    matrix_TT = rows_NT.T @ rows_NT / 5 + 3.0 * np.diag(unit_T**2)
    step_T = gauss_newton_step(rows_NT, slope_T, unit_T, 3.0)
    np.testing.assert_allclose(step_T, -np.linalg.solve(matrix_TT, slope_T))


def two_layers(graph: Graph) -> Graph:
    return dataclasses.replace(graph, operations=graph.convs[:2])


def test_damping_goes_half_by_the_layers_mean(graph: Graph) -> None:
    small = two_layers(graph)
    num = sum(2 * conv.out_channels for conv in small.convs)
    rows_NT = np.random.default_rng(0).normal(size=(7, num))
    rows_NT[:, 0] = 0
    unit_T = damping_units(rows_NT, small)
    own_T, start = np.square(rows_NT).mean(axis=0), 0
    for conv in small.convs:
        for _ in range(2):
            part_T = own_T[start : start + conv.out_channels]
            wanted = 0.5 * part_T + 0.5 * part_T.mean()
            np.testing.assert_allclose(unit_T[start : start + conv.out_channels] ** 2, wanted)
            start += conv.out_channels
    assert start == num
    # A layer without any curvature is not divided by nothing.
    rows_NT[:, : graph.convs[0].out_channels] = 0
    lowest = damping_units(rows_NT, small)[0]
    assert lowest == pytest.approx(np.sqrt(1e-12 * (damping_units(rows_NT, small) ** 2).max()))
    assert (damping_units(np.zeros((2, num)), small) > 0).all()


def test_changes_reach_their_scales_and_biases(graph: Graph, quantized: QuantizedNetwork) -> None:
    """With hardly any damping to speak of, each unknown moves by its own slope."""
    num = 2 * sum(conv.out_channels for conv in graph.convs)
    change_T = np.random.default_rng(0).uniform(-0.3, 0.3, num)
    change_T[0], change_T[1] = 7.0, -7.0
    # Rows that are orthonormal times sqrt(N) make the curvature, and all units, 1.
    correction = ScaleBiasCorrection(
        graph=graph, rows_NT=np.sqrt(num) * np.eye(num), slope_T=-11 * change_T, divergence=0.0
    )
    found, start = correction.corrected(quantized, 10.0), 0
    for conv in graph.convs:
        new, old = found.levels[conv.name], quantized.levels[conv.name]
        middle, stop = start + conv.out_channels, start + 2 * conv.out_channels
        clipped_O = change_T[start:middle].clip(-MAX_SCALE_CHANGE, MAX_SCALE_CHANGE)
        np.testing.assert_allclose(new.scales_O, old.scales_O * (1 + clipped_O), rtol=1 / 60)
        np.testing.assert_allclose(new.bias_O, old.bias_O + change_T[middle:stop], atol=1e-9)
        start = stop


def test_no_readable_image_makes_no_correction(folded: LoadedModel, graph: Graph) -> None:
    empty = ArrayImages(
        pixels_NHWC=np.zeros((0, 8, 8, 3), np.uint8), labels=np.zeros(0, np.int64),
        class_names=folded.record.class_names, title="none",
    )  # fmt: skip
    batches = EvalBatches(empty, folded.record.preprocessing, workers=0, part=range(0))
    found = measure_correction(
        copy_model(folded), folded, graph, batches, seed=0,
        progress=SilentProgress(), title="x", check=lambda: None,
    )  # fmt: skip
    assert found is None


def test_hooks_are_removed_when_it_is_stopped(folded: LoadedModel, graph: Graph) -> None:
    student = copy_model(folded)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_correction(
            student, folded, graph, digit_batches(folded, "train", 8), seed=0,
            progress=SilentProgress(), title="x", check=stop,
        )  # fmt: skip
    assert all(not module._forward_hooks for module in student.module.modules())
