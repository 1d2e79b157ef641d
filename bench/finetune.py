"""Fine-tuning from ImageNet weights beside training from scratch, on a few hundred photographs.

    python bench/finetune.py ../shared/data --task 8 --work finetune

Groups ``imagenet-train1k`` into everyday categories (``coarse_categories``), runs the commands of a
user with their defaults, and evaluates both networks on ``imagenet-val500``. Training from scratch
gets three times the epochs. A second call with the same --work resumes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from coarse_categories import TASKS, write_categories
from commands import squeezenet

_SCRATCH_EPOCHS_FACTOR = 3
"""More epochs for the network from scratch, so that it is not at a disadvantage."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with imagenet-train1k")
    parser.add_argument("--task", choices=sorted(TASKS), default="8", help="number of classes")
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="epochs of fine-tuning (default: the recipe's)")
    options = parser.parse_args()
    names = TASKS[options.task]
    work = options.work / options.task
    counts = {
        part: write_categories(options.shared / source, work / part, names)
        for part, source in (("train", "imagenet-train1k"), ("test", "imagenet-val500"))
    }
    start = options.shared / "compressed_SqueezeNet.net"
    print(f"{len(names)} classes, {counts['train']} training and {counts['test']} test pictures;")
    print(f"{os.cpu_count()} cores")
    print("| | epochs | seconds | top-1 on val500 |\n|---|--:|--:|--:|")
    tuned = _run("fine-tuned", work, options, ["--from", start, "--new-head"])
    longer = ["--epochs", _SCRATCH_EPOCHS_FACTOR * round(tuned["epochs"])]
    _run("from scratch", work, options, ["--arch", "squeezenet1_0", "--input-size", 227, *longer])


def _run(
    name: str, work: Path, options: argparse.Namespace, arguments: list[object]
) -> dict[str, Any]:
    """Train with the command line's defaults, evaluate, and print a row."""
    run = work / f"{name.replace(' ', '-')}-seed{options.seed}"
    common: list[object] = ["--out", run, "--seed", options.seed]
    if options.epochs and "--epochs" not in arguments:
        common += ["--epochs", options.epochs]
    trained = squeezenet("train", work / "train", *arguments, *common)
    evaluated = squeezenet("eval", run, work / "test")
    print(
        f"| {name} | {trained['epochs']:.0f} | {trained['seconds']:.0f} | "
        f"{evaluated['top1']:.1f} |",
        flush=True,
    )
    return trained


if __name__ == "__main__":
    main()
