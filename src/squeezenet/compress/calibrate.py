"""Calibration: the scale and zero point of every 8-bit activation tensor.

The network of the quantized weights runs in float32 over some images. Each tensor gets the scale
and zero point of least mean squared error, clipping included: x is kept as
(clip(round(x / scale) + zero_point, 0, 255) - zero_point) * scale. The range is searched for as a
share of [min, max], both ends shrunk alike. spec/INTEGER.md bounds scales from below: M < 1 for
every convolution, and sources of an addition of at most 32 times the target's scale.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from squeezenet.arch.graph import Add, Conv, Graph, build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors, source_of_scale
from squeezenet.codec.numerics import Float32Array, round_activation_scale
from squeezenet.codec.types import ActivationScale, CompressedModel, LevelWeights
from squeezenet.compress.number_range import MAX_BIAS_UNITS
from squeezenet.images.batches import EvalBatches
from squeezenet.progress import Progress, SilentProgress
from squeezenet.reference.float_interpreter import FloatInterpreter
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks

CALIBRATION_IMAGES = 200
"""Drawn from the whole set. The first 200 of a sorted set are of few classes: on those, 8-bit
activations cost the ImageNet network 0.0069 nats, on 200 drawn from all 0.0051
(docs/experiments)."""
VALUES_PER_IMAGE = 4096
"""Values of a tensor that each image contributes, about. It bounds memory; not measured."""
RANGE_SHARES = np.geomspace(0.25, 1.0, 29)
"""Shares of the whole range that are tried, 5% apart."""
CONV_MARGIN = 1.001
"""M < 1 is required of numbers that the file rounds: standard deviations to 16 fractional bits. The
margin is far above that error."""
MAX_ADD_RATIO = 31
"""Largest scale of an addition's source, in scales of its target. INTEGER.md allows below 32."""


def calibrated(
    model: CompressedModel,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
    ranks: Ranks = ONE_RANK,
) -> CompressedModel:
    """Return the model with activation scales, measured on the images of all ranks' ``batches``.

    All layers must be ``LevelWeights``. The result satisfies INTEGER.md's limits on scales.
    """
    graph = build_graph(model.record.spec)
    samples: dict[str, list[Float32Array]] = {name: [] for name in scaled_tensors(graph)}

    def observe(name: str, x_CHW: Float32Array) -> None:
        if name in samples:
            # An odd stride visits all rows and channels, whose sizes are mostly even.
            stride = max(1, x_CHW.size // VALUES_PER_IMAGE) | 1
            samples[name].append(x_CHW.reshape(-1)[::stride].copy())

    interpreter = FloatInterpreter(model, observe)

    def run() -> None:
        with (progress or SilentProgress()).task(
            "calibrate", total=len(batches), unit="img"
        ) as task:
            for batch in batches:
                interpreter.logits(batch.pixels_NHWC)
                task.advance(len(batch.pixels_NHWC))

    ranks.together(run)
    parts = ranks.gather(samples)

    def choose() -> dict[str, ActivationScale]:
        activations: dict[str, ActivationScale] = {}
        for name in samples:
            values = np.concatenate([value for part in parts for value in part[name]])
            min_scale = smallest_scale(name, model, graph, activations)
            activations[name] = best_scale(values, min_scale)
        return activations

    return dataclasses.replace(model, activations=ranks.on_main(choose))


def best_scale(values: Float32Array, min_scale: float = 0.0) -> ActivationScale:
    """Return the scale, at least ``min_scale``, and zero point of least mean squared error."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return min(
        (_scale_of_range(share * low, share * high, min_scale) for share in RANGE_SHARES),
        key=lambda scale: _mean_squared_error(values, scale),
    )


def _scale_of_range(low: float, high: float, min_scale: float) -> ActivationScale:
    """The scale and zero point that spread 0 to 255 over a range that contains 0."""
    tiny = float(np.finfo(np.float32).tiny)
    scale = round_activation_scale(max((high - low) / 255, min_scale, 2 * tiny))
    if scale < min_scale:
        # Rounded down: take the next scale that a file can hold.
        scale = round_activation_scale(scale * (1 + 1 / 128))
    return ActivationScale(scale=scale, zero_point=min(255, max(0, round(-low / scale))))


def _mean_squared_error(values: Float32Array, scale: ActivationScale) -> float:
    q = (np.rint(values / scale.scale) + scale.zero_point).clip(0, 255)
    return float(np.square((q - scale.zero_point) * scale.scale - values).mean(dtype=np.float64))


def smallest_scale(
    target: str, model: CompressedModel, graph: Graph, known: dict[str, ActivationScale]
) -> float:
    """The smallest scale that INTEGER.md allows a tensor, given the scales of its sources.

    A convolution: M = source scale * weight scale / target scale < 1. An addition: no source above
    ``MAX_ADD_RATIO`` target scales. The convolutions that read the tensor: biases that fit into an
    accumulator.
    """
    own = source_of_scale(graph)
    weights_by_name = {layer.name: layer.weights for layer in model.layers}
    input_scale = 1 / min(model.record.preprocessing.std)
    smallest = 0.0
    for op in graph.operations:
        if op.target != target:
            continue
        sources = (op.source, op.other) if isinstance(op, Add) else (op.source,)
        scales = [known[own[name]].scale if own[name] in known else input_scale for name in sources]
        if isinstance(op, Conv):
            weights = weights_by_name[op.name]
            assert isinstance(weights, LevelWeights)
            smallest = max(smallest, CONV_MARGIN * scales[0] * float(weights.scales_O.max()))
        elif isinstance(op, Add):
            smallest = max(smallest, max(scales) / MAX_ADD_RATIO)
    layers = {layer.name: layer for layer in model.layers}
    for op in graph.operations:
        if isinstance(op, Conv) and own.get(op.source) == target:
            weights = layers[op.name].weights
            assert isinstance(weights, LevelWeights)
            units_O = np.abs(layers[op.name].bias_O) / weights.scales_O.astype(np.float64)
            smallest = max(smallest, float(units_O.max()) / MAX_BIAS_UNITS)
    return smallest
