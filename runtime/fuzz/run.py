"""Build the fuzz targets with clang and run each for a while from good seeds.

    python runtime/fuzz/run.py --seconds 600 [--bits 32] [--work fuzz] [target ...]

Needs clang with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer; with --bits 32 these
and the C library for 32 bits as well. Ends with an error when a target finds something; the input
that did it lies in the work folder.
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
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import squeezenet_tiny
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import ConvSpec, FireSpec, PoolSpec, SqueezeNetSpec
from squeezenet.codec.client_sections import graph_bytes
from squeezenet.codec.container import ClientRequirements, encode
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.trellis import to_levels
from squeezenet.codec.types import (
    ActivationScale,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
    exact_codebook,
)

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
NEEDS_32 = (
    "needs a C library for 32 bits: on Debian apt-get install libc6-dev-i386 lib32gcc-12-dev "
    "libclang-rt-14-dev (gcc-multilib brings the first two too, but removes the compilers for "
    "other processors that make test-targets needs)"
)
COUNTS = (128, 4096, 1 << 14, 1 << 16, 1 << 20, 1 << 21, 1 << 24, 1 << 26, 1 << 27, (1 << 28) - 1)
"""Numbers close to where a size may run over: a dictionary, as counts of GRAPH and as u32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--bits", type=int, choices=(32, 64), default=64, help="of an address")
    parser.add_argument("--work", type=Path, default=Path("fuzz"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    flags = FLAGS if options.bits == 64 else [*FLAGS, "-m32"]
    if options.bits == 32 and not links(flags, options.work):
        sys.exit(NEEDS_32)
    found = [each for each in options.targets if not fuzz(each, flags, options)]
    if found:
        sys.exit(f"findings in {', '.join(found)}")


def links(flags: list[str], work: Path) -> bool:
    """Whether an empty target can be built."""
    empty = work / "empty.c"
    empty.write_text(
        "#include <stdlib.h>\n"
        "int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);\n"
        "int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {\n"
        "    return (void)data, (void)size, 0;\n"
        "}\n"
    )
    done = subprocess.run(["clang", *flags, "-o", work / "empty", empty], capture_output=True)
    return done.returncode == 0


def fuzz(target: str, flags: list[str], options: argparse.Namespace) -> bool:
    """Build a target and run it; print the result. True: it found nothing."""
    name, runtime = f"{target}{options.bits}", HERE.parent
    program, words = options.work / f"fuzz_{name}", options.work / "counts.dict"
    sources = [
        path for folder in ("fuzz", "src", "kernels") for path in runtime.glob(f"{folder}/*.c")
    ]
    command = ["clang", *flags, f"-DTARGET=target_{target}", "-o", program, *sources]
    subprocess.run(command, check=True)
    words.write_text("".join(f'"{escaped(word)}"\n' for word in dictionary()))
    corpus = options.work / f"corpus_{target}"
    corpus.mkdir(exist_ok=True)
    for i, seed in enumerate(seeds(target)):
        (corpus / f"seed{i}").write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", "-max_len=40000", "-timeout=20"]
    more = [f"-dict={words}", f"-artifact_prefix={options.work}/{name}-", "-print_final_stats=1"]
    done = subprocess.run([program, *limits, *more, corpus], stderr=subprocess.PIPE, text=True)
    runs = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    edges, features = reached[-1] if reached else ("?", "?")
    print(
        f"{target}, {options.bits} bits: {runs[-1] if runs else '?'} runs, {edges} edges and "
        f"{features} features reached, exit {done.returncode}",
        flush=True,
    )
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
    return done.returncode == 0


def dictionary() -> list[bytes]:
    """The numbers of ``COUNTS`` and their neighbours, as a file has them."""
    numbers = sorted({n + off for n in COUNTS for off in (-1, 0, 1) if n + off < 1 << 28})
    counts = [bytes(n >> 7 * k & 127 | 128 for k in range(num_bytes(n) - 1)) for n in numbers]
    ends = [bytes([n >> 7 * (num_bytes(n) - 1)]) for n in numbers]
    u32 = [struct.pack("<I", n) for n in (*numbers, 1 << 28, 1 << 31, (1 << 32) - 1)]
    return [*(count + end for count, end in zip(counts, ends, strict=True)), *u32]


def num_bytes(count: int) -> int:
    """Of a count of GRAPH."""
    return max(1, (count.bit_length() + 6) // 7)


def escaped(word: bytes) -> str:
    """As libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def seeds(target: str) -> list[bytes]:
    """Inputs for a target: a small network in both representations, and the golden files."""
    found = []
    if target == "run":
        files = [(VECTORS / "accept" / "integer.sqz").read_bytes(), encode(smaller_model())]
        return [file + bytes([choice]) for file in files for choice in range(0, 256, 9)]
    if target in ("header", "file"):
        found = [path.read_bytes() for path in sorted(VECTORS.glob("*/*.sqz"))]
    for model in (small_model(levels=True), small_model(levels=False)):
        graph = build_graph(model.record.spec)
        needs = ClientRequirements.of(graph)
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


def smaller_model() -> CompressedModel:
    """A network that runs thousands of times per second: colour, a pool after the stem."""
    spec = dataclasses.replace(
        squeezenet_tiny(),
        stem=ConvSpec(out_channels=19, kernel=3, stride=2, padding=1),
        fires=(FireSpec(s1x1=3, e1x1=5, e3x3=4), FireSpec(s1x1=2, e1x1=6, e3x3=3, bypass="conv")),
        pools=(PoolSpec(after="conv1", kernel=3, stride=2),),
        input_channels=3,
        input_size=(13, 9),
    )
    return small_model(levels=True, spec=spec)


def small_model(*, levels: bool, spec: SqueezeNetSpec | None = None) -> CompressedModel:
    """``squeezenet_tiny``, or another network, with random sparse weights."""
    spec = dataclasses.replace(spec or squeezenet_tiny(), batch_norm=False)
    names = tuple(f"c{i}" for i in range(spec.num_classes))
    record = ModelRecord(spec=spec, preprocessing=default_preprocessing(spec), class_names=names)
    rng = np.random.default_rng(0)
    layers = []
    for i, conv in enumerate(build_graph(spec).convs):
        whole = np.rint(rng.laplace(0, 0.5, conv.weight_shape)).clip(-127, 127)
        trellis = levels and i % 2 == 1
        if trellis:
            rows = whole.astype(int).reshape(conv.out_channels, -1).tolist()
            for row in rows:
                to_levels(row)
            whole = np.array(rows).reshape(conv.weight_shape)
        bias_O = round_biases(rng.normal(size=conv.out_channels), 0.01)
        scales_O = round_scales(rng.uniform(0.01, 0.02, conv.out_channels))
        if levels:
            weights = LevelWeights(
                levels_OIHW=whole.astype(np.int8), scales_O=scales_O, trellis=trellis
            )
            layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
            continue
        codes = exact_codebook(whole.astype(np.float32))
        assert codes is not None
        layers.append(CompressedLayer(name=conv.name, weights=codes, bias_O=bias_O))
    scale = ActivationScale(scale=0.0625, zero_point=0)
    activations = dict.fromkeys(scaled_tensors(build_graph(spec)), scale) if levels else None
    return CompressedModel(record=record, layers=tuple(layers), activations=activations)


if __name__ == "__main__":
    main()
