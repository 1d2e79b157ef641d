"""Retraining: its recipe, its teacher, and what it leaves pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.compress import retrain
from squeezenet.compress.prune import magnitude_masks
from squeezenet.compress.retrain import Retraining, pruned, retraining_recipe
from squeezenet.data.digits import load_digits
from squeezenet.model.fold import fold_batch_norm
from squeezenet.train.recipe import recipe_named
from squeezenet.train.run_folder import RunFolder
from tests.compress.conftest import OPTIONS, untrained_model


def test_recipe() -> None:
    base = recipe_named("default")
    found = retraining_recipe(base, "x", epochs=3, learning_rate=0.25, weight_decay=0.125)
    assert (found.name, found.epochs, found.max_steps) == ("x", 3, None)
    assert (found.learning_rate, found.weight_decay, found.optimizer) == (0.25, 0.125, "sgd")
    assert (found.warmup_epochs, found.clip_norm, found.ema_decay) == (0.5, 1.0, 0.0)
    assert found.coarse_share == 0.0
    assert (found.batch_size, found.augmentation) == (base.batch_size, base.augmentation)


def test_a_pruned_network_is_held_retrained_and_folded() -> None:
    model = untrained_model()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    graph = build_graph(model.record.spec)
    masks = magnitude_masks(
        fold_batch_norm(model).module, graph, {conv.name: 0.3 for conv in graph.convs}
    )
    held: list[bool] = []

    def train(module: torch.nn.Module, hold: Any) -> None:
        weights = [module.get_submodule(conv.key).weight for conv in graph.convs]
        for weight, mask in zip(weights, masks.values(), strict=True):
            held.append(not weight[~mask].any())  # before the first step
        with torch.no_grad():
            for weight in weights:
                weight.add_(1.0)
        hold(module)

    found = pruned(model, graph, masks, train)
    assert all(held) and len(held) == len(graph.convs)
    assert not found.record.spec.batch_norm
    for conv in graph.convs:
        weight = found.module.state_dict()[f"{conv.key}.weight"]
        assert torch.equal(weight != 0, masks[conv.name])
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, before[key])  # the model itself stays


def test_the_original_teaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network trained by its own predictions stays; labels, and what is held, are passed on."""
    teacher, images = fold_batch_norm(untrained_model()), load_digits()["train"]
    losses: list[Any] = []
    teach = retrain.teacher_loss

    def recorded(teacher: Any, recipe: Any, temperature: float, *, labelled: Any) -> Any:
        losses.append((temperature, labelled))
        return teach(teacher, recipe, temperature, labelled=labelled)

    monkeypatch.setattr(retrain, "teacher_loss", recorded)
    training = Retraining(
        teacher=teacher, images=images.subset(list(range(64))), labelled=None, seed=0,
        options=OPTIONS,
    )  # fmt: skip
    recipe = retraining_recipe(
        recipe_named("digits"), "x", epochs=1, learning_rate=0.01, weight_decay=0.0
    )
    student, folder, held = fold_batch_norm(untrained_model()), RunFolder(tmp_path / "x"), []
    folder.open({})
    training.run(student.module, recipe, folder, held.append)
    assert losses == [(2.0, None)]
    assert len(held) == 64 // recipe.batch_size and held[0] is student.module
    for key, value in teacher.module.state_dict().items():
        torch.testing.assert_close(student.module.state_dict()[key], value, atol=1e-3, rtol=1e-3)
