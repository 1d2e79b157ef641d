"""Build the fuzz targets with clang and run each for a while from good seeds.

    python runtime/fuzz/run.py --seconds 600 [--work fuzz] [target ...]

Needs clang with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer. Ends with an error
when a target finds something; the input that did it lies in the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from squeezenet.arch.graph import build_graph
from squeezenet.arch.integer import scaled_tensors
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import squeezenet_tiny
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import Needs, encode
from squeezenet.codec.plan_bytes import graph_bytes
from squeezenet.codec.types import (
    CompressedLayer,
    CompressedModel,
    LevelWeights,
    TensorScale,
    exact_codebook,
    round_biases,
    round_scales,
)
from squeezenet.codec.weights import encode_weights

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "spec" / "vectors"
TARGETS = ("header", "graph", "decoder", "file", "run")
FLAGS = [
    "-g",
    "-O1",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
    "-DSQZ_NO_CHECKSUMS",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--work", type=Path, default=Path("fuzz"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    failed = []
    for target in options.targets:
        program = options.work / f"fuzz_{target}"
        runtime = HERE.parent
        sources = [HERE / "fuzz.c", *runtime.glob("src/sqz_*.c"), *runtime.glob("kernels/sqz_*.c")]
        command = ["clang", *FLAGS, f"-DTARGET=target_{target}", "-o", program, *sources]
        subprocess.run(command, check=True)
        corpus = options.work / f"corpus_{target}"
        corpus.mkdir(exist_ok=True)
        for i, seed in enumerate(seeds(target)):
            (corpus / f"seed{i}").write_bytes(seed)
        limits = [f"-max_total_time={options.seconds}", "-max_len=20000", "-print_final_stats=1"]
        artifacts = f"-artifact_prefix={options.work}/{target}-"
        done = subprocess.run(
            [program, *limits, artifacts, corpus], stderr=subprocess.PIPE, text=True
        )
        runs = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
        edges, features = reached[-1] if reached else ("?", "?")
        print(
            f"{target}: {runs[-1] if runs else '?'} runs, {edges} edges and {features} features "
            f"reached, exit {done.returncode}",
            flush=True,
        )
        if done.returncode:
            failed.append(target)
            print(done.stderr[-3000:], file=sys.stderr)
    if failed:
        sys.exit(f"findings in {', '.join(failed)}")


def seeds(target: str) -> list[bytes]:
    """Inputs for a target: a small network in both representations, and the golden files."""
    found = []
    if target == "run":
        return [encode(small_model(levels=True)) + bytes([choice]) for choice in range(32)]
    if target in ("header", "file"):
        found = [path.read_bytes() for path in sorted(VECTORS.glob("*/*.sqz"))]
    for model in (small_model(levels=True), small_model(levels=False)):
        graph = build_graph(model.record.spec)
        needs = Needs.of(graph)
        if target == "graph":
            numbers = (needs.num_weights, needs.largest_channel, needs.peak_activations)
            counts = (len(graph.tensors) - 1, len(graph.operations) - 1)
            head = struct.pack("<BBIII", *model.record.spec.input_size, *numbers)
            found.append(head + bytes(counts) + graph_bytes(graph))
        elif target == "decoder":
            found.append(bytes([1, 9, 2, 2, 1, 9, 0, 0]) + encode_weights(model.layers))
        else:
            found.append(encode(model))
    return found


def small_model(*, levels: bool) -> CompressedModel:
    """``squeezenet_tiny`` with random sparse weights."""
    spec = dataclasses.replace(squeezenet_tiny(), batch_norm=False)
    names = tuple(f"c{i}" for i in range(spec.num_classes))
    record = ModelRecord(spec=spec, preprocessing=default_preprocessing(spec), class_names=names)
    rng = np.random.default_rng(0)
    layers = []
    for conv in build_graph(spec).convs:
        whole = np.rint(rng.laplace(0, 0.5, conv.weight_shape)).clip(-127, 127)
        bias_O = round_biases(rng.normal(size=conv.out_channels), 0.01)
        scales_O = round_scales(rng.uniform(0.01, 0.02, conv.out_channels))
        if levels:
            weights = LevelWeights(levels_OIHW=whole.astype(np.int8), scales_O=scales_O)
            layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
            continue
        codes = exact_codebook(whole.astype(np.float32))
        assert codes is not None
        layers.append(CompressedLayer(name=conv.name, weights=codes, bias_O=bias_O))
    scale = TensorScale(step=0.0625, zero=0)
    activations = dict.fromkeys(scaled_tensors(build_graph(spec)), scale) if levels else None
    return CompressedModel(record=record, layers=tuple(layers), activations=activations)


if __name__ == "__main__":
    main()
