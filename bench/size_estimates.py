"""How far the estimated sizes of a search are from those of compressed files.

    python bench/size_estimates.py cifar10 RUN... --work sizes

For each run folder: the bytes that ``squeezenet explore search`` estimates (method ``rd`` without
its last steps), those of ``squeezenet compress --calib`` at the same divergence, and how long each
takes. At the end the differences, and Spearman's rank correlation. A second call with the same
--work compresses nothing again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from commands import squeezenet

from squeezenet.compress.estimate import estimated_file_bytes
from squeezenet.compress.images import random_subset
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.data.sources import open_training_data
from squeezenet.explore.search_trial import CALIBRATION_IMAGES
from squeezenet.model.load import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="the data of the runs")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--divergence", type=float, default=0.07)
    parser.add_argument("--work", type=Path, required=True, help="folder for files")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    images = random_subset(open_training_data(options.data).train, CALIBRATION_IMAGES, 0)
    settings = RateDistortionSettings(divergence=options.divergence)
    pairs: list[tuple[int, int]] = []
    print("| run | estimated | s | compressed | s | difference, % |\n|---|--:|--:|--:|--:|--:|")
    for run in options.runs:
        known = options.work / f"{run.name}.json"
        if not known.exists():
            started = time.monotonic()
            work = options.work / f"{run.name}.estimate"
            estimated = estimated_file_bytes(load_model(run), images, settings, work)
            middle = time.monotonic()
            file = options.work / f"{run.name}.sqz"
            words = ("--calib", options.data, "--divergence", options.divergence)
            report = squeezenet("compress", run, *words, "--no-temperature", "--out", file)
            seconds = (middle - started, time.monotonic() - middle)
            known.write_text(json.dumps([estimated, report["file_bytes"], *seconds]))
        estimated, compressed, *seconds = json.loads(known.read_text())
        pairs.append((estimated, compressed))
        print(
            f"| {run.name} | {estimated:,} | {seconds[0]:.0f} | {compressed:,} | {seconds[1]:.0f} "
            f"| {100 * (estimated / compressed - 1):+.1f} |",
            flush=True,
        )
    ratios = [a / b for a, b in pairs]
    print(
        f"\nratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )
    if len(pairs) > 2:
        ranks = [np.argsort(np.argsort(column)) for column in zip(*pairs, strict=True)]
        correlation = np.asarray(np.corrcoef(ranks))[0, 1]
        print(f"rank correlation: {correlation:.3f}")


if __name__ == "__main__":
    main()
