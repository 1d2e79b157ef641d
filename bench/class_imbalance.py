"""Rare classes: what the weights of the loss do, on digits of which half are made rare.

    python bench/class_imbalance.py --work imbalance

The digits 0, 2, 4, 6 and 8 keep all their training pictures, the others ``--rare`` each.
``squeezenet_tiny`` is trained by the recipe ``digits`` on these with equal weight per class, which
is the default; with equal weight per picture, which the command line does not offer; and on all
pictures. Each is evaluated on the test part, in which no class is rare. *At training's frequencies*
is the top-1 where classes are as rare as in training: recalls weighted so. A second call with the
same --work resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from squeezenet import open_model
from squeezenet.data.digits import load_digits
from squeezenet.images.sets import ArrayImages
from squeezenet.train.plan import TrainOptions, plan_training

_RARE = (1, 3, 5, 7, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and runs")
    parser.add_argument("--rare", type=int, default=5, help="training pictures per rare class")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    cases = [
        (f"{options.rare} per rare class, equal weight per class", options.rare, True),
        (f"{options.rare} per rare class, equal weight per picture", options.rare, False),
        (f"{2 * options.rare} per rare class, equal weight per class", 2 * options.rare, True),
        ("all pictures", None, True),
    ]
    print(
        "| training pictures | top-1 | recall, common | recall, rare | precision, rare | top-1 at "
        "training's frequencies |\n|---|--:|--:|--:|--:|--:|"
    )
    for name, rare, balance in cases:
        rows = []
        for seed in range(options.seeds):
            data = options.work / f"digits-{rare or 'all'}-{seed}"
            _write(data, rare, seed)
            run = options.work / f"run-{rare or 'all'}-{seed}-{'class' if balance else 'picture'}"
            _train(data, run, seed, balance=balance)
            rows.append(_judge(run, _counts(data)))
        means, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
        error = spread / np.sqrt(len(rows))
        cells = [f"{mean:.1f} ± {se:.1f}" for mean, se in zip(means, error, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _write(folder: Path, rare: int | None, seed: int) -> None:
    """Write the digits as ``train/<class>/*.png`` and ``val/<class>/*.png``, if not there yet.

    The validation part is the usual one, with its rare classes as rare as in training.
    """
    if folder.is_dir():
        return
    for part in ("train", "val"):
        images = load_digits()[part]
        for label, name in enumerate(images.class_names):
            members = np.flatnonzero(images.labels == label)
            if rare is not None and label in _RARE:
                order = np.random.default_rng([seed, label]).permutation(members)
                members = order[: rare if part == "train" else 1]
            target = folder / part / name
            target.mkdir(parents=True)
            for i in members:
                Image.fromarray(images.pixels(int(i))).save(target / f"{i:04}.png")


def _train(data: Path, run: Path, seed: int, *, balance: bool) -> None:
    options = TrainOptions(arch="squeezenet_tiny", recipe="digits", seed=seed)
    plan = plan_training(str(data), options)
    recipe = dataclasses.replace(plan.recipe, balance=balance)
    dataclasses.replace(plan, recipe=recipe).run(run)


def _counts(data: Path) -> list[int]:
    """The number of training pictures of each class."""
    return [sum(1 for _ in (data / "train" / str(k)).iterdir()) for k in range(10)]


def _judge(run: Path, counts: list[int]) -> list[float]:
    """The figures of a row, in percent."""
    test = load_digits()["test"]
    predicted = _predictions(run, test)
    right = predicted == test.labels
    recall = [100 * right[test.labels == k].mean() for k in range(10)]
    precision = [100 * right[predicted == k].mean() if (predicted == k).any() else 0 for k in _RARE]
    common = [k for k in range(10) if k not in _RARE]
    return [
        float(100 * right.mean()),
        float(np.mean([recall[k] for k in common])),
        float(np.mean([recall[k] for k in _RARE])),
        float(np.mean(precision)),
        float(np.average(recall, weights=counts)),
    ]


def _predictions(run: Path, images: ArrayImages) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    model = open_model(run)
    best = [model.predict(images.pixels(i), top=1)[0].label for i in range(len(images))]
    return np.array([int(label) for label in best])


if __name__ == "__main__":
    main()
