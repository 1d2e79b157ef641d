"""How fast are the NumPy reference, beside torch, and the codec, on SqueezeNet v1.0 at 227 pixels?

Uses random weights of the published file's density, so it needs no data. All run in one process, in
turns A B A B. Prints medians and quartiles; only the ratios carry over to other machines.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable

import numpy as np
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.preprocessing import caffe_preprocessing
from squeezenet.arch.presets import caffe_squeezenet1_0
from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from squeezenet.codec.types import CodebookWeights, CompressedLayer, CompressedModel
from squeezenet.model.load import from_compressed
from squeezenet.reference.float_interpreter import FloatInterpreter

WARM_UPS, REPEATS, DENSITY = 2, 9, 0.33


def random_model() -> CompressedModel:
    """Return v1.0 with codebooks of 256 entries and random codes, a third of them non-zero."""
    rng = np.random.default_rng(0)
    names, ids = imagenet_classes()
    record = ModelRecord(
        spec=caffe_squeezenet1_0(),
        preprocessing=caffe_preprocessing(),
        class_names=names,
        class_ids=ids,
    )
    layers = []
    for conv in build_graph(record.spec).convs:
        codes = np.clip(rng.normal(128, 40, conv.weight_shape), 1, 255)
        codes *= rng.random(conv.weight_shape) < DENSITY
        std = (2 / (DENSITY * conv.num_weights / conv.out_channels)) ** 0.5
        codebook = np.concatenate([[0], np.linspace(-3 * std, 3 * std, 255)]).astype(np.float32)
        weights = CodebookWeights(codes_OIHW=codes.astype(np.uint8), codebook=codebook)
        bias = np.zeros(conv.out_channels, np.float32)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias))
    return CompressedModel(record=record, layers=tuple(layers))


def measure(contenders: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the milliseconds of each contender, turn by turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(WARM_UPS + REPEATS):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if repeat >= WARM_UPS:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}, commit "
        f"{commit or 'unknown'}; {WARM_UPS} warm-ups, {REPEATS} repeats"
    )
    model = random_model()
    data = container.encode(model)
    loaded, interpreter = from_compressed(model), FloatInterpreter(model)
    loaded.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = np.random.default_rng(1).normal(size=(1, 3, 227, 227)).astype(np.float32)
    times = measure(
        {
            "reference, one image": lambda: interpreter(x),
            "torch channels-last, one image": lambda: loaded.logits(x),
            f"encode {len(data):,} bytes": lambda: container.encode(model),
            "decode them": lambda: container.decode(data),
        }
    )
    base = statistics.median(times["torch channels-last, one image"])
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(
            f"{name:32} {middle:8.1f} ms  ({low:.1f} .. {high:.1f})  {middle / base:5.2f} x torch"
        )


if __name__ == "__main__":
    main()
