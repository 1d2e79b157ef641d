"""Accuracy against bytes received: what a prefix of a .sqz could answer if files had one.

    python bench/progressive.py MODEL.sqz ../shared/data [--work FOLDER] [--plot FILE.png]

Nothing of the format is used that is not there: this measures what two changes would give. Early
exits: a small head after some Fire modules, trained by distillation on ``photos`` and
``imagenet-train1k``. Refinement: coarse levels first, then what they lack. Bytes are those of real
encodings by the range coder, and accuracy is that of the integer client; matrices of heads alone
are multiplied in float. MODEL.sqz is a SqueezeNet for ImageNet's classes. The network for CIFAR-10
in the package is measured beside it. Prints a table, and writes FOLDER/progressive.json and the
plot FILE.png. A second call takes features from the folder (default build/progressive).

Legend: N images, C features, K classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from progressive_features import cifar_sets, imagenet_sets, run_sets
from progressive_points import (
    ROOM,
    File,
    Point,
    category_point,
    classifier_points,
    exit_points,
    measure,
    refinement_points,
)

from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.codec.container import read_sqz
from squeezenet.images.sets import FolderImages

_EXITS = ("fire3", "fire4", "fire5", "fire7", "fire8")
_RANKS: tuple[int | None, ...] = (8, 16, 32, 64, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .sqz for ImageNet's classes")
    parser.add_argument("shared", type=Path, help="the folder with the pictures")
    work = Path("build/progressive")
    parser.add_argument("--work", type=Path, default=work, help="folder for features and results")
    parser.add_argument("--plot", type=Path, help="where the plot goes, a .png")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = read_sqz(options.model)
    sets = imagenet_sets(options.shared, model)
    file = _open(options.model, _EXITS, sets, options.work)
    small = Path(__file__).parents[1] / "src/squeezenet/weights/cifar10.sqz"
    spec = read_sqz(small).record.spec
    assert isinstance(spec, SqueezeNetSpec)
    small_fires = spec.fire_names[1:-1]
    small_file = _open(small, small_fires, cifar_sets(options.shared, options.work), options.work)
    points: list[Point] = []
    for point in _all_points(file, small_file, sets):
        points.append(point)
        print(row(point), flush=True)
        plain = [dataclasses.asdict(each) for each in points]
        (options.work / "progressive.json").write_text(json.dumps(plain, indent=1))
    if options.plot:
        draw(points).savefig(options.plot, dpi=110, metadata={"Software": None})


def _open(path: Path, fires: tuple[str, ...], sets: dict[str, FolderImages], work: Path) -> File:
    model = read_sqz(path)
    pictures = run_sets(model, fires, sets, work)
    return File(model=model, pictures=pictures, num_bytes=path.stat().st_size)


def _all_points(file: File, small_file: File, sets: dict[str, FolderImages]) -> Iterator[Point]:
    whole = {name: measure(pictures.logits_NK, pictures) for name, pictures in file.tests.items()}
    yield Point(group="whole", name="whole file", received=file.num_bytes, added=0, sets=whole)
    yield from refinement_points(file, sets)
    for fire in _EXITS:
        yield from exit_points(file, fire, _RANKS if fire in ("fire5", "fire7") else (16,))
    for fire in ("fire5", "fire7"):
        yield from classifier_points(file, fire, (8, 16, 32))
    for fire in ("fire3", "fire5", "fire7"):
        yield category_point(file, fire)
    whole = {name: measure(p.logits_NK, p) for name, p in small_file.tests.items()}
    yield Point(
        group="CIFAR-10, whole", name="whole file", received=small_file.num_bytes, added=0,
        sets=whole,
    )  # fmt: skip
    for fire in next(iter(small_file.tests.values())).features_NC:
        for point in exit_points(small_file, fire, (None,)):
            yield dataclasses.replace(point, group=f"CIFAR-10, {point.group}")


def row(point: Point) -> str:
    """Return a point as a row of a table: top-1/top-5, agreement and KL per set."""
    cells = [
        f"{m.top1:.1f}/{m.top5:.1f}, {m.agreement:.1f}, {m.kl:.2f}" for m in point.sets.values()
    ]
    return (
        f"| {point.group} | {point.name} | {point.received:,} | {point.added:+,} | "
        f"{' | '.join(cells)} | {point.note} |"
    )


def draw(points: list[Point]) -> Figure:
    """Plot top-1 against the bytes that have arrived; full marks add at most 2% to the file."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    styles = {
        "exit": ("o", "#1f6fb4", "early exit with a small head"),
        "classifier": ("s", "#2a8a3e", "early exit through conv10"),
        "refinement, as it is": ("v", "#8a8a8a", "coarse levels as they are"),
        "refinement, scales and biases": ("^", "#e07b00", "coarse levels, corrected"),
        "whole": ("*", "#000000", "whole file"),
    }
    tests = list(points[0].sets)
    room = ROOM * points[0].received
    for axis, test in zip(figure.subplots(1, len(tests), sharey=True), tests, strict=True):
        for group, (marker, colour, label) in styles.items():
            for small in (True, False):
                found = [
                    point
                    for point in points
                    if point.group.removesuffix(", 2%") == group
                    and (point.added <= room) == small
                    and (group == "whole" or point.received < points[0].received)
                ]
                axis.plot(
                    [point.received / 1000 for point in found],
                    [point.sets[test].top1 for point in found],
                    marker, color=colour, markersize=10 if marker == "*" else 6,
                    markerfacecolor=colour if small else "none",
                )  # fmt: skip
            axis.plot([], [], marker, color=colour, label=label)
        axis.set(xlabel="bytes received, thousands", title=test)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in figure.axes:  # when all is drawn: the two share their limits
        axis.set(xlim=(0, None), ylim=(0, None))
    figure.axes[0].set_ylabel("top-1, %")
    figure.axes[0].legend(frameon=False, fontsize=8, title="full: adds at most 2%")
    return figure


if __name__ == "__main__":
    main()
