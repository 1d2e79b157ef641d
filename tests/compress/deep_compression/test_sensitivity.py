"""The sensitivity scan."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.compress.deep_compression import sensitivity
from squeezenet.compress.deep_compression.sensitivity import (
    DENSITIES,
    MAX_TOTAL_DROP_BUDGETS,
    scan_densities,
)
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import SilentProgress
from tests.compress.conftest import CountedProgress, untrained_model


@pytest.fixture
def scanned() -> tuple[LoadedModel, Graph, torch.Tensor, torch.Tensor]:
    model = fold_batch_norm(untrained_model())
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.from_numpy(model.logits(x.numpy())).argmax(dim=1)
    return model, build_graph(model.record.spec), x, targets


def scan(scanned: Any, **options: Any) -> dict[str, float]:
    return scan_densities(*scanned, **({"budget": 0.0, "progress": SilentProgress()} | options))


def test_layers_that_matter_stay_dense(scanned: Any) -> None:
    model = scanned[0]
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    strict, loose = scan(scanned), scan(scanned, budget=100.0)
    assert set(loose.values()) == {DENSITIES[0]}
    assert all(strict[name] >= loose[name] for name in strict) and max(strict.values()) > 0.3
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, before[key])  # the scan leaves the model as it was


def density_of(weight: torch.Tensor) -> float:
    return float((weight != 0).float().mean())


def test_each_layer_gets_the_smallest_density_within_the_budget(
    scanned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracy is made a function of densities: layer i loses a point below DENSITIES[i]."""
    graph = scanned[1]
    wanted = {conv.name: DENSITIES[i % len(DENSITIES)] for i, conv in enumerate(graph.convs)}
    sizes: list[int] = []

    def accuracy(module: torch.nn.Module, x: torch.Tensor, targets: torch.Tensor) -> float:
        found = [density_of(module.get_submodule(conv.key).weight) for conv in graph.convs]
        sizes.append(sum(density < 0.999 for density in found))
        lost = sum(
            density < wanted[conv.name] - 0.04
            for conv, density in zip(graph.convs, found, strict=True)
        )
        return 90.0 - lost

    monkeypatch.setattr(sensitivity, "_accuracy", accuracy)
    saved: list[dict[str, float]] = []
    progress = CountedProgress()
    assert scan(scanned, budget=0.99, save=saved.append, progress=progress) == wanted
    assert progress.totals == progress.advanced == [len(graph.convs)]
    assert max(sizes[:-1]) == 1  # alone, and all together in the end
    assert [len(densities) for densities in saved] == list(range(1, len(graph.convs) + 1))
    assert saved[-1] == wanted
    # A point is within a budget of one point.
    assert set(scan(scanned, budget=1.0).values()) == {DENSITIES[0]}

    # Known densities are taken over, not measured again.
    sizes.clear()
    known = json.loads(json.dumps(dict.fromkeys(wanted, 0.5)))
    assert set(scan(scanned, budget=2.0, known=known).values()) == {0.5}
    assert len(sizes) == 2
    # What is none of the densities that are tried is not known.
    assert scan(scanned, budget=0.99, known=dict.fromkeys(wanted, 0.3)) == wanted


def test_all_layers_together_keep_more_until_the_sum_is_small(
    scanned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = scanned[1]

    def accuracy(module: torch.nn.Module, x: torch.Tensor, targets: torch.Tensor) -> float:
        found = [density_of(module.get_submodule(conv.key).weight) for conv in graph.convs]
        if sum(density < 0.999 for density in found) <= 1:
            return 90.0  # alone, no layer matters
        return 90.0 - 100 * (1 - sum(found) / len(found))

    monkeypatch.setattr(sensitivity, "_accuracy", accuracy)
    for budget, density in ((5.0, 0.1), (2.6, 0.5), (1.9, 0.7), (1.2, 0.85), (0.1, 1.0)):
        assert set(scan(scanned, budget=budget).values()) == {density}
    assert MAX_TOTAL_DROP_BUDGETS == 20
    # Layers that keep all stay there while others follow.
    known = {conv.name: DENSITIES[0 if i else -1] for i, conv in enumerate(graph.convs)}
    found = scan(scanned, budget=2.0, known=known)
    assert found[graph.convs[0].name] == 1.0
    assert set(list(found.values())[1:]) < set(DENSITIES[1:-1])


def test_a_sum_of_just_the_limit_is_allowed(scanned: Any) -> None:
    model, graph = scanned[:2]
    chosen = {conv.name: 3 for conv in graph.convs}
    for limit, place in ((10.0, 3), (9.9, len(DENSITIES) - 1)):
        found = sensitivity._within_total(model, graph, chosen, lambda: 10.0, limit)
        assert set(found.values()) == {DENSITIES[place]}


def test_accuracy_is_in_percent_over_all_batches(scanned: Any) -> None:
    model, _, x, targets = scanned
    wrong = targets.clone()
    wrong[:16] = (wrong[:16] + 1) % 10
    more = torch.cat([x, x[:10]])  # a second, smaller batch
    all_targets = torch.cat([wrong, targets[:10]])
    assert sensitivity._accuracy(model.module, more, all_targets) == pytest.approx(100 * 58 / 74)
