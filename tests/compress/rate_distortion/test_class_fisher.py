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
    conv = graph.convs[-1]
    every = class_fisher._KeptImages(conv)
    monkeypatch.setattr(class_fisher, "MAX_RANK", 5)
    kept = class_fisher._KeptImages(conv)
    module = folded.module.eval()
    for batch in digit_batches(folded, "train", 60):
        x = torch.from_numpy(normalise(batch.pixels_NHWC, folded.record.preprocessing))
        for each in (every, kept):
            handle = module.get_submodule(conv.key).register_forward_hook(each.hook)
            with torch.no_grad():
                each.add(module(x).softmax(dim=1))
            handle.remove()
    assert kept.roots_KRP.shape[1] == 5
    share_KR, place_KR = every.share_KR.topk(5, dim=1)
    kept_share_KR, kept_place_KR = kept.share_KR.topk(5, dim=1)
    assert torch.equal(kept_share_KR, share_KR)
    # Products of a matrix with more or fewer rows may be rounded otherwise.
    for k, (place_R, kept_place_R) in enumerate(zip(place_KR, kept_place_KR, strict=True)):
        torch.testing.assert_close(kept.roots_KRP[k, kept_place_R], every.roots_KRP[k, place_R])


def test_ranks_keep_what_one_process_keeps(
    folded: LoadedModel, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_fisher, "MAX_RANK", 5)
    batches = digit_batches(folded, "train", 60)
    handled: list[class_fisher._KeptImages] = [
        class_fisher._KeptImages(graph.convs[-1]) for _ in range(3)
    ]
    for i, batch in enumerate(batches):
        for kept in (handled[0], handled[1 + i % 2]):
            module = folded.module.get_submodule(graph.convs[-1].key)
            handle = module.register_forward_hook(kept.hook)
            x = torch.from_numpy(normalise(batch.pixels_NHWC, folded.record.preprocessing))
            with torch.no_grad():
                kept.add(folded.module.eval()(x).softmax(dim=1))
            handle.remove()
    whole, first, second = handled
    first.merge([(each.share_KR, each.roots_KRP) for each in (first, second)])
    for ours_RP, theirs_RP in zip(first.roots_KRP, whole.roots_KRP, strict=True):
        torch.testing.assert_close(ours_RP.T @ ours_RP, theirs_RP.T @ theirs_RP)


def test_large_or_grouped_layers_have_none() -> None:
    assert max_rank(conv_of(groups=2)) == 0
    assert max_rank(conv_of(groups=1)) > 0
