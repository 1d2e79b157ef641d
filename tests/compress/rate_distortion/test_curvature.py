"""Curvature: exactly what its equations say, and about what the KL divergence does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from squeezenet.arch.graph import Conv, build_graph
from squeezenet.compress.rate_distortion.curvature import (
    MAX_PATCHES,
    _LayerSums,
    draw_score,
    measure_curvature,
)
from squeezenet.evaluation.metrics import kl_divergence
from squeezenet.images.preprocess import normalise
from squeezenet.model.fold import fold_batch_norm
from tests.compress.conftest import CountedProgress, digit_batches, untrained_model


def conv_of(**options: object) -> Conv:
    values: dict[str, object] = {
        "name": "c", "source": "a", "target": "b", "target_start": 0, "in_channels": 4,
        "out_channels": 6, "kernel": (3, 3), "stride": 1, "padding": 1, "groups": 1,
        "relu": True, "key": "c", "norm_key": None,
    }  # fmt: skip
    return Conv(**(values | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({}, 5),
        ({"kernel": (1, 1), "padding": 0}, 5),
        ({"kernel": (1, 1), "padding": 1}, 5),
        ({"kernel": (1, 1), "padding": 0, "stride": 2}, 5),
        ({"stride": 2, "padding": 0}, 7),
        ({"groups": 2}, 4),
        ({"kernel": (1, 1), "padding": 0}, 19),  # 361 positions: every second makes the moment
    ],
)
def test_sums_of_a_layer(options: dict[str, object], side: int) -> None:
    conv, generator = conv_of(**options), torch.Generator().manual_seed(0)
    layer = torch.nn.Conv2d(
        4, 6, conv.kernel, stride=conv.stride, padding=conv.padding, groups=conv.groups
    )
    sums = _LayerSums(conv, torch.device("cpu"))
    watched = copy.deepcopy(layer)
    watched.register_forward_hook(sums.hook)
    group_inputs, group_outputs = 4 // conv.groups, 6 // conv.groups
    fisher, output = np.zeros((conv.groups, 2), object), np.zeros((conv.groups, 2), object)
    mean_GP, moment_GPP = [0.0] * conv.groups, [0.0] * conv.groups
    for _ in range(2):
        x_NCHW = torch.randn(3, 4, side, side, generator=generator)
        weights_NOHW = torch.randn(layer(x_NCHW).shape, generator=generator)
        (watched(x_NCHW) * weights_NOHW).sum().backward()
        for n in range(3):
            (v_OIHW,) = torch.autograd.grad(
                (layer(x_NCHW[n : n + 1]) * weights_NOHW[n : n + 1]).sum(), [layer.weight]
            )
            patches_PL = functional.unfold(
                x_NCHW[n : n + 1], conv.kernel, padding=conv.padding, stride=conv.stride
            )[0]
            for g in range(conv.groups):
                v_QP = v_OIHW[g * group_outputs : (g + 1) * group_outputs].flatten(1).double()
                v_QP = v_QP.numpy()
                fisher[g, 0] += v_QP.T @ v_QP
                output[g, 0] += v_QP @ v_QP.T
                size = group_inputs * conv.kernel[0] * conv.kernel[1]
                part_PL = patches_PL[g * size : (g + 1) * size].double().numpy()
                mean_GP[g] += part_PL.mean(axis=1)
                some_PL = part_PL[:, :: max(1, part_PL.shape[1] // MAX_PATCHES)]
                moment_GPP[g] += some_PL @ some_PL.T / some_PL.shape[1]
    found = sums.mean(6)
    for g in range(conv.groups):
        np.testing.assert_allclose(found.fisher_GPP[g], fisher[g, 0] / 6, rtol=2e-3, atol=1e-3)
        wanted = output[g, 0] / np.trace(output[g, 0])
        np.testing.assert_allclose(found.output_GQQ[g], wanted, rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(found.mean_GP[g], mean_GP[g] / 6, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.moment_GPP[g], moment_GPP[g] / 6, rtol=1e-4, atol=1e-4)


def test_scores_have_the_fisher_matrix_for_second_moment() -> None:
    logits_K = torch.tensor([2.0, 0.0, -1.0, 0.5])
    scores_NK = draw_score(logits_K.repeat(200_000, 1), torch.Generator().manual_seed(0))
    p_K = logits_K.softmax(0)
    wanted = torch.diag(p_K) - p_K[:, None] * p_K
    torch.testing.assert_close(scores_NK.T @ scores_NK / 200_000, wanted, atol=3e-3, rtol=0)
    assert float(scores_NK.sum(dim=1).abs().max()) < 1e-5


def test_a_batch_is_added_once_and_mirrored_twice() -> None:
    model = fold_batch_norm(untrained_model())
    graph = build_graph(model.record.spec)
    stops: list[int] = []
    batches = digit_batches(model, "train", 40)
    plain = measure_curvature(model, graph, batches, seed=0, check=lambda: stops.append(1))
    progress = CountedProgress()
    again = measure_curvature(model, graph, batches, seed=0, progress=progress)
    assert progress.totals == progress.advanced == [40]
    other = measure_curvature(model, graph, batches, seed=1)
    mirrored = measure_curvature(model, graph, batches, seed=0, mirrored=True)
    assert len(stops) == 2
    first = graph.convs[0]
    x_NCHW = np.concatenate([normalise(b.pixels_NHWC, model.record.preprocessing) for b in batches])
    both = np.concatenate([x_NCHW, x_NCHW[..., ::-1]])
    for found, x in ((plain, x_NCHW), (mirrored, both)):
        patches_NPL = functional.unfold(
            torch.from_numpy(x.copy()), first.kernel, padding=first.padding, stride=first.stride
        )
        mean_P = patches_NPL.mean(dim=(0, 2)).numpy()
        np.testing.assert_allclose(found[first.name].mean_GP[0], mean_P, rtol=1e-4, atol=1e-5)
    for name, layer in plain.items():
        np.testing.assert_array_equal(layer.fisher_GPP, again[name].fisher_GPP)
        assert (layer.fisher_GPP != other[name].fisher_GPP).any()
        # As many views, so of the same size, but not the same.
        ratio = np.trace(mirrored[name].fisher_GPP[0]) / np.trace(layer.fisher_GPP[0])
        assert 0.6 < ratio < 1.6 and ratio != 1
    assert all(not m._forward_hooks for m in model.module.modules())
    assert all(p.grad is None for p in model.module.parameters())


def test_the_model_predicts_the_divergence() -> None:
    model = fold_batch_norm(untrained_model())
    graph = build_graph(model.record.spec)
    batches = digit_batches(model, "train", 256)
    curvature = measure_curvature(model, graph, batches, seed=0)
    x_NCHW = np.concatenate([normalise(b.pixels_NHWC, model.record.preprocessing) for b in batches])
    before = model.logits(x_NCHW)
    rng = np.random.default_rng(0)
    for conv in graph.convs:
        layer = curvature[conv.name]
        assert abs(np.trace(layer.output_GQQ[0]) - 1) < 1e-9
        weight = model.module.get_submodule(conv.key).weight
        kept = weight.detach().clone()
        predicted = measured = 0.0
        for _ in range(4):
            change = rng.normal(size=kept.shape) * 0.03 * float(kept.std())
            d_OP = change.reshape(conv.out_channels, -1)
            predicted += 0.5 * float(
                np.sum((layer.output_GQQ[0] @ d_OP @ layer.fisher_GPP[0]) * d_OP)
            )
            with torch.no_grad():
                weight += torch.from_numpy(change).float()
            measured += float(kl_divergence(before, model.logits(x_NCHW)).mean())
            with torch.no_grad():
                weight.copy_(kept)
        # Outputs share one matrix and scores are drawn, so only about so.
        assert 0.4 < predicted / measured < 2.5, (conv.name, predicted, measured)
