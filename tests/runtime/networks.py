"""Random networks for integer clients: all operations, odd sizes, bypass, 1x1 inputs."""

from __future__ import annotations

import numpy as np

from squeezenet.arch.graph import Add, Conv, build_graph
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.quantized_tensors import find_head, scaled_tensors, source_of_scale
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import ConvSpec, FireSpec, HeadSpec, PoolSpec, SqueezeNetSpec
from squeezenet.codec.numerics import round_activation_scale, round_biases, round_scales
from squeezenet.codec.types import ActivationScale, CompressedLayer, CompressedModel, LevelWeights
from squeezenet.errors import SpecError


def random_network(seed: int) -> CompressedModel:
    """A small network with levels of any size and activations that saturate now and then."""
    rng = np.random.default_rng(seed)
    record = _record(rng)
    while record is None:
        record = _record(rng)
    return network_of(record, rng)


def network_of(record: ModelRecord, rng: np.random.Generator) -> CompressedModel:
    """Random levels, scales and activations for a record."""
    graph = build_graph(record.spec)
    head, own = find_head(graph), source_of_scale(graph)
    largest = int(rng.choice([1, 3, 20, 127]))
    density = rng.choice([0.1, 0.5, 1.0])
    layers, scales_of, activations = [], {}, {}
    for conv in graph.convs:
        size = conv.num_weights // conv.out_channels
        levels = rng.integers(-largest, largest + 1, conv.weight_shape)
        levels *= rng.random(conv.weight_shape) < density
        scales = round_scales(
            rng.uniform(0.3, 3, conv.out_channels) / (largest * np.sqrt(size * density) + 1)
        )
        scales_of[conv.name] = float(scales.max())
        weights = LevelWeights(levels_OIHW=levels.astype(np.int8), scales_O=scales)
        bias = round_biases(rng.normal(0, 0.3, conv.out_channels), 1 / 1024)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias))
    input_step = 1 / min(record.preprocessing.std)
    for name in scaled_tensors(graph):
        min_step = 0.0
        signed = False
        for op in graph.operations:
            if op.target != name:
                continue
            sources = (op.source, op.other) if isinstance(op, Add) else (op.source,)
            steps = [
                activations[own[s]].scale if own[s] in activations else input_step for s in sources
            ]
            if isinstance(op, Conv) and op is not head:
                min_step = max(min_step, 1.01 * steps[0] * scales_of[op.name])
                signed |= not op.relu
            elif isinstance(op, Add):
                min_step = max(min_step, max(steps) / 4)
        step = round_activation_scale(max(1.01 * min_step, float(rng.uniform(0.5, 4)) / 255))
        # Zero points above 0 after a ReLU too: no calibration makes them, but a file may have them.
        zero = int(rng.integers(256)) if signed else 23 * (len(activations) % 2)
        activations[name] = ActivationScale(scale=step, zero_point=zero)
    return CompressedModel(record=record, layers=tuple(layers), activations=activations)


def _record(rng: np.random.Generator) -> ModelRecord | None:
    channels = int(rng.choice([1, 3]))
    sides = [1, 1, 1, 2, 3, 8, 13, 27]
    side = (int(rng.choice(sides)), int(rng.choice(sides)))
    fires = tuple(_fire(rng) for _ in range(int(rng.integers(1, 4))))
    if rng.random() < 0.5:  # a second module of the same width, with identity bypass
        last = fires[-1]
        fires += (FireSpec(s1x1=2, e1x1=last.e1x1, e3x3=last.e3x3, bypass="identity"),)
    kernel = int(rng.choice([1, 3, 5]))
    try:
        spec = SqueezeNetSpec(
            name="random",
            stem=ConvSpec(
                out_channels=int(rng.choice([2, 7, 16, 19, 40])),
                kernel=kernel,
                stride=int(rng.integers(1, 3)),
                padding=int(rng.integers(0, 3)),
            ),
            fires=fires,
            pools=tuple(
                PoolSpec(
                    after=after,
                    kernel=int(rng.integers(2, 4)),
                    stride=int(rng.integers(1, 3)),
                    ceil_mode=bool(rng.random() < 0.5),
                )
                for after in ("conv1", "fire2")
                if rng.random() < 0.5
            ),
            head=HeadSpec(
                padding=int(rng.integers(0, 2)), last_relu=bool(rng.random() < 0.5), dropout=0.0
            ),
            num_classes=int(rng.choice([2, 10, 17])),
            input_channels=channels,
            input_size=side,
        )
        build_graph(spec)
    except SpecError:
        return None
    prep = Preprocessing(
        resize=max(side),
        crop=side,
        channels="L" if channels == 1 else ("RGB", "BGR")[int(rng.integers(2))],
        mean=tuple(rng.uniform(-20, 270, channels).tolist()),
        std=tuple(rng.uniform(1, 90, channels).tolist()),
    )
    names = tuple(f"class {k}" for k in range(spec.num_classes))
    return ModelRecord(spec=spec, preprocessing=prep, class_names=names)


def _fire(rng: np.random.Generator) -> FireSpec:
    e1x1, e3x3 = int(rng.choice([1, 5, 16, 23])), int(rng.choice([1, 4, 9, 32]))
    bypass = "conv" if rng.random() < 0.3 else "none"
    return FireSpec(
        s1x1=int(rng.integers(1, min(20, e1x1 + e3x3))), e1x1=e1x1, e3x3=e3x3, bypass=bypass
    )
