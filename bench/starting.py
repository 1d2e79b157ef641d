"""Does training start? Two epochs of CIFAR-10 from several seeds, with and without batch norm.

    python bench/starting.py cifar10 --work starting

Runs the command line's defaults and prints the accuracy on the test images. A second call with the
same --work resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from commands import squeezenet

_BOUNDS = {"--batch-norm": 55.0, "--no-batch-norm": 40.0}
"""Minimum top-1 after two epochs of a run that has started to learn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="CIFAR-10, with train/ and test/")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--arch", default="squeezenet_cifar")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.arch}, {options.epochs} epochs")
    print("| | seed | seconds | top-1 on test | bound |\n|---|--:|--:|--:|--:|")
    all_started = True
    for norm, bound in _BOUNDS.items():
        for seed in range(options.seeds):
            run = options.work / f"{options.arch}{norm}-{seed}"
            trained = squeezenet(
                "train", options.data, "--arch", options.arch, norm, "--epochs", options.epochs,
                "--seed", seed, "--out", run,
            )  # fmt: skip
            top1 = squeezenet("eval", run, options.data)["top1"]
            started = top1 >= bound
            all_started &= started
            print(
                f"| {norm[2:]} | {seed} | {trained['seconds']:.0f} | {top1:.1f} | {bound:.0f} |",
                flush=True,
            )
    sys.exit(0 if all_started else 1)


if __name__ == "__main__":
    main()
