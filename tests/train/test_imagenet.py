"""The recipe for ImageNet, on a few pictures at a low resolution."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from squeezenet.api.train import train
from squeezenet.train.recipe import recipe_named


def test_the_recipe_trains_at_both_of_its_resolutions(
    tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    recipe = recipe_named("imagenet")
    assert 0 < recipe.coarse_share < 1  # so that 4 steps have both
    data = image_folder(a=20, b=20, size=(72, 64))
    result = train(
        data, out=tmp_path / "run", arch="squeezenet1_1", recipe="imagenet", input_size=64,
        max_steps=4, micro_batch=8, device="cpu", workers=0, report=False,
    )  # fmt: skip
    assert result.recipe == "imagenet" and result.steps == 4
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(losses) == 4 and all(map(math.isfinite, losses))


def test_the_recipe_is_shorter_than_the_papers() -> None:
    num_images = 1_281_167  # ImageNet's training set
    ours, paper = recipe_named("imagenet"), recipe_named("paper")
    images = [r.total_steps(num_images) * r.batch_size for r in (ours, paper)]
    assert images[0] < 0.75 * images[1]
