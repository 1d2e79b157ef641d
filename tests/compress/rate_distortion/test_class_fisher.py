"""The Fisher matrices of the classes, against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezenet.arch.graph import Graph
from squeezenet.compress.rate_distortion import class_fisher
from squeezenet.compress.rate_distortion.class_fisher import max_rank, measure_class_fisher
from squeezenet.images.preprocess import normalise
from squeezenet.model.loaded import LoadedModel
from tests.compress.conftest import digit_batches
from tests.compress.rate_distortion.test_curvature import conv_of


def matrices_by_definition(folded: LoadedModel, graph: Graph, num_images: int) -> np.ndarray:
    """(K, P, P), from autograd: the gradient of a logit by its own class's weights is x."""
    batches = digit_batches(folded, "train", num_images)
    pixels = np.concatenate([batch.pixels_NHWC for batch in batches])
    x = torch.from_numpy(normalise(pixels, folded.record.preprocessing))
    weight = folded.module.get_submodule(graph.convs[-1].key).weight
    found = torch.zeros(len(weight), weight[0].numel(), weight[0].numel())
    for image in x:
        logits = folded.module.eval()(image[None])[0]
        p = logits.detach().softmax(0)
        for k in range(len(weight)):
            (gradient,) = torch.autograd.grad(logits[k], weight, retain_graph=True)
            row = gradient[k].flatten()
            found[k] += p[k] * (1 - p[k]) * torch.outer(row, row)
    return (found / len(x)).numpy()


def test_matrices_are_those_of_the_definition(
    folded: LoadedModel, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_fisher, "MIN_SHARE", 0.0)
    roots_KRP = measure_class_fisher(folded, graph, digit_batches(folded, "train", 40))
    assert roots_KRP.shape[1] == max_rank(graph.convs[-1])
    wanted_KPP = matrices_by_definition(folded, graph, 40)
    np.testing.assert_allclose(
        roots_KRP.transpose(0, 2, 1) @ roots_KRP,
        wanted_KPP,
        rtol=1e-3,
        atol=1e-4 * wanted_KPP.max(),
    )


def test_the_heaviest_are_kept(
    folded: LoadedModel, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = digit_batches(folded, "train", 60)
    every_KRP = measure_class_fisher(folded, graph, batches)
    monkeypatch.setattr(class_fisher, "MAX_RANK", 5)
    kept_KRP = measure_class_fisher(folded, graph, batches)
    assert kept_KRP.shape[1] == 5
    for every_RP, kept_RP in zip(every_KRP, kept_KRP, strict=True):
        rows = {row.tobytes() for row in every_RP}
        assert all(row.tobytes() in rows or not row.any() for row in kept_RP)


def test_large_or_grouped_layers_have_none() -> None:
    assert max_rank(conv_of(groups=2)) == 0
    assert max_rank(conv_of(groups=1)) > 0
