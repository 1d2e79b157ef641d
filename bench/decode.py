"""How fast does the C reader decode a file's weights, beside zlib and xz on the same numbers?

    python bench/decode.py ../shared/data --work decode
    python bench/decode.py ../shared/data --work decode --model v10.sqz

Decodes the authors' file as a ``.sqz``, and each MODEL, on one core, in turns A B A B. zlib (level
9) and xz (preset 9) have the levels or codes as bytes, without scales or biases. Prints bytes, and
milliseconds: minimum, median and quartiles.
"""

from __future__ import annotations

import argparse
import lzma
import os
import statistics
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from commands import compile_program, squeezenet

from squeezenet.codec.container import read_sqz

TURNS = 21
"""Odd, so that the median is a measured value; a whole run takes seconds."""
RUNTIME = Path(__file__).parents[1] / "runtime"
READER = ("sqz_file.c", "sqz_graph.c", "sqz_decode.c")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with the authors' file")
    parser.add_argument("--work", type=Path, required=True, help="folder for created files")
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="more .sqz files")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    program = options.work / "decode"
    sources = [Path(__file__).with_suffix(".c"), *(RUNTIME / "src" / name for name in READER)]
    compile_program(program, *sources, options=("-O2", f"-I{RUNTIME}"))
    authors = options.work / "authors.sqz"
    if not authors.is_file():
        squeezenet("convert", options.shared / "compressed_SqueezeNet.net", authors)
    print("| file | coder | bytes | ms, min | ms, median (quartiles) |")
    print("|---|---|--:|--:|--:|")
    for file in (authors, *options.model):
        _compare(program, file)


def _compare(program: Path, file: Path) -> None:
    layers = read_sqz(file).layers
    numbers = b"".join(layer.weights.symbols_OIHW.tobytes() for layer in layers)
    packed = zlib.compress(numbers, 9), lzma.compress(numbers, preset=9)
    contenders: dict[str, tuple[int, Callable[[], float]]] = {
        "ours, complete file": (file.stat().st_size, lambda: _ours(program, file)),
        "zlib": (len(packed[0]), lambda: _timed(lambda: zlib.decompress(packed[0]))),
        "xz": (len(packed[1]), lambda: _timed(lambda: lzma.decompress(packed[1]))),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, (_, decode) in contenders.items():
            times[name].append(decode())
    for name, (size, _) in contenders.items():
        low, middle, high = statistics.quantiles(times[name], n=4)
        print(
            f"| {file.name} | {name} | {size:,} | {min(times[name]):.1f} | "
            f"{middle:.1f} ({low:.1f} to {high:.1f}) |"
        )


def _ours(program: Path, file: Path) -> float:
    done = subprocess.run(
        [str(program.resolve()), str(file)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[0])


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
