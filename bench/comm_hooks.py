"""Does a comm hook cost accuracy? CIFAR-10 by two ranks, each hook beside none, from several seeds.

    python bench/comm_hooks.py cifar10 --work comm-hooks --hooks int8 --epochs 64

``torchrun`` starts the command line's training with its defaults, and the accuracy is that on the
test images. A second call with the same --work resumes. ``--seeds`` seeds each, equal epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from commands import squeezenet

_NUM_RANKS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="CIFAR-10, with train/ and test/")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--arch", default="squeezenet_cifar")
    parser.add_argument("--hooks", nargs="+", default=["int8", "powersgd:4"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--test", type=Path, help="images to judge by (default: DATA)")
    options = parser.parse_args()
    print(
        f"{options.arch}, {options.epochs} epochs, {_NUM_RANKS} ranks\n\n"
        "| hook | seed | seconds | top-1 |\n|---|--:|--:|--:|"
    )
    means: dict[str, float] = {}
    for hook in ["none", *options.hooks]:
        found = [_run(options, hook, seed) for seed in range(options.seeds)]
        means[hook] = mean(found)
    print("\n| hook | mean top-1 | less than without |\n|---|--:|--:|")
    for hook, top1 in means.items():
        print(f"| {hook} | {top1:.2f} | {means['none'] - top1:.2f} |")


def _run(options: argparse.Namespace, hook: str, seed: int) -> float:
    """Train with a hook, as ``powersgd:RANK`` with a rank; print a row and return the top-1."""
    name, _, rank = hook.partition(":")
    run = options.work / f"{options.arch}-{hook.replace(':', '')}-{options.epochs}-{seed}"
    arguments: list[object] = [
        "train", options.data, "--arch", options.arch, "--epochs", options.epochs,
        "--seed", seed, "--out", run, "--comm-hook", name,
    ]  # fmt: skip
    if rank:
        arguments += ["--powersgd-rank", rank]
    trained = _with_ranks(*arguments)
    top1 = float(squeezenet("eval", run, options.test or options.data)["top1"])
    print(f"| {hook} | {seed} | {trained['seconds']:.0f} | {top1:.2f} |", flush=True)
    return top1


def _with_ranks(*arguments: object) -> dict[str, Any]:
    """Run a command by several processes of this machine and return rank 0's result."""
    threads = max(1, (os.cpu_count() or 1) // _NUM_RANKS)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(_NUM_RANKS), "-m", "squeezenet", *map(str, arguments), "--json",
    ]  # fmt: skip
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
