"""How many pictures per class are enough: fine-tuning on more and more, the rest by default.

    python bench/learning_curve.py ../shared/data --task photographs --work curve
    python bench/learning_curve.py ../shared/data --task cifar10 --work curve

``photographs``: ten categories of Caltech-101 that are classes of ImageNet too; 18 pictures of each
are kept for the test. ``cifar10``: 32x32 pixels, and 100 test images of each class. ``squeezenet
train --from`` the published weights of v1.1, in half precision, with the defaults; validation is
the tenth of the pictures that training holds out itself. A picture is in every larger set of the
same seed. A second call with the same --work resumes.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from commands import squeezenet

_COUNTS = {"photographs": (2, 5, 10, 20), "cifar10": (5, 10, 30, 100)}
_TEST = {"photographs": 18, "cifar10": 100}
_CATEGORIES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with photos and cifar10-jpeg.tar.gz")
    parser.add_argument("--task", choices=sorted(_COUNTS), default="photographs")
    parser.add_argument("--counts", type=int, nargs="+", help="pictures per class")
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and runs")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    work = options.work / options.task
    sources = {"photographs": _photographs, "cifar10": _cifar10}
    learn, test = sources[options.task](options.shared, work)
    _copy(test, work / "test")
    print("| pictures per class | top-1 | least and most |\n|--:|--:|--:|")
    for count in options.counts or _COUNTS[options.task]:
        rows = []
        for seed in range(options.seeds):
            data, run = work / f"data-{count}-{seed}", work / f"run-{count}-{seed}"
            _copy({name: _drawn(paths, count, seed) for name, paths in learn.items()}, data)
            start = options.shared / "squeezenet1_1-fp16.pth"
            squeezenet("train", data, "--from", start, "--out", run, "--seed", seed)
            rows.append(squeezenet("eval", run, work / "test")["top1"])
        print(f"| {count} | {np.mean(rows):.1f} | {min(rows):.1f} to {max(rows):.1f} |", flush=True)


_Pictures = dict[str, list[Path]]
"""Class -> its pictures."""


def _photographs(shared: Path, work: Path) -> tuple[_Pictures, _Pictures]:
    """The categories with most pictures, ties by name: to learn from, and for the test."""
    found: _Pictures = defaultdict(list)
    with (shared / "photos" / "photos.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["wnid"] and row["file"].startswith("caltech101/"):
                found[row["wnid"]].append(shared / "photos" / row["file"])
    names = sorted(found, key=lambda name: (-len(found[name]), name))[:_CATEGORIES]
    drawn = {name: _drawn(found[name], len(found[name]), 0) for name in names}
    held = _TEST["photographs"]
    return (
        {name: paths[held:] for name, paths in drawn.items()},
        {name: paths[:held] for name, paths in drawn.items()},
    )


def _cifar10(shared: Path, work: Path) -> tuple[_Pictures, _Pictures]:
    folder = work / "cifar10"
    if not folder.is_dir():
        with tarfile.open(shared / "cifar10-jpeg.tar.gz") as archive:
            archive.extractall(work / "unpacked", filter="data")
        (train,) = (work / "unpacked").rglob("train")
        train.parent.rename(folder)
    learn, test = (
        {path.name: sorted(path.glob("*.jpg")) for path in sorted((folder / part).iterdir())}
        for part in ("train", "test")
    )
    return learn, {name: _drawn(paths, _TEST["cifar10"], 0) for name, paths in test.items()}


def _drawn(paths: list[Path], count: int, seed: int) -> list[Path]:
    """The first ``count`` of an order that the seed gives."""
    return random.Random(seed).sample(sorted(paths), len(paths))[:count]


def _copy(pictures: _Pictures, target: Path) -> None:
    """Write ``target/<class>/*``, if it is not there yet."""
    if target.is_dir():
        return
    for name, paths in pictures.items():
        (target / name).mkdir(parents=True)
        for path in paths:
            shutil.copyfile(path, target / name / path.name)


if __name__ == "__main__":
    main()
