"""What a byte of each activation stands for: steps and zeros from calibration images.

The network of the rounded weights runs in float32 over some images, and each tensor gets the step
with the least mean square error, clipping included. spec/INTEGER.md bounds steps from below.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import Add, Conv, Graph, build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors, source_of_scale
from squeezenet.codec.numerics import round_activation_scale
from squeezenet.codec.types import ActivationScale, CompressedModel, LevelWeights
from squeezenet.images.batches import EvalBatches
from squeezenet.progress import Progress, SilentProgress
from squeezenet.reference.float_interpreter import FloatInterpreter

CALIBRATION_IMAGES = 200
"""So many are enough, of all kinds: the first 200 of a set are often of one kind."""
_VALUES_AN_IMAGE = 4096
_SHARES = np.geomspace(0.25, 1.0, 29)
"""Of the whole range: where clipping is tried."""
_RATIO = 31
"""An addition's source may have at most so many times the step of its target."""


def calibrated(
    model: CompressedModel, batches: EvalBatches, *, progress: Progress | None = None
) -> CompressedModel:
    """Return the model with scales of its activations, from what they are for some images."""
    graph = build_graph(model.record.spec)
    samples: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in scaled_tensors(graph)}

    def observe(name: str, x_CHW: npt.NDArray[np.float32]) -> None:
        if name in samples:
            # A stride without common factor with rows and channels sees all of them.
            stride = max(1, x_CHW.size // _VALUES_AN_IMAGE) | 1
            samples[name].append(x_CHW.reshape(-1)[::stride].copy())

    interpreter = FloatInterpreter(model, observe)
    with (progress or SilentProgress()).task("calibrate", total=len(batches), unit="img") as task:
        for batch in batches:
            interpreter.logits(batch.pixels_NHWC)
            task.advance(len(batch.pixels_NHWC))
    activations: dict[str, ActivationScale] = {}
    for name, values in samples.items():
        least = _least_step(name, model, graph, activations)
        activations[name] = best_scale(np.concatenate(values), least)
    return dataclasses.replace(model, activations=activations)


def best_scale(values: npt.NDArray[np.float32], least_step: float = 0.0) -> ActivationScale:
    """Return the scale, its step at least ``least_step``, that keeps values best."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return min(
        (_scale(share * low, share * high, least_step) for share in _SHARES),
        key=lambda scale: _error(values, scale),
    )


def _scale(low: float, high: float, least_step: float) -> ActivationScale:
    tiny = float(np.finfo(np.float32).tiny)
    step = round_activation_scale(max((high - low) / 255, least_step, 2 * tiny))
    if step < least_step:
        step = round_activation_scale(step * (1 + 1 / 128))
    return ActivationScale(scale=step, zero_point=min(255, max(0, round(-low / step))))


def _error(values: npt.NDArray[np.float32], scale: ActivationScale) -> float:
    q = (np.rint(values / scale.scale) + scale.zero_point).clip(0, 255)
    return float(np.square((q - scale.zero_point) * scale.scale - values).mean(dtype=np.float64))


def _least_step(
    target: str, model: CompressedModel, graph: Graph, known: dict[str, ActivationScale]
) -> float:
    """A convolution's unit must be below its target's step, an addition's sources not far above."""
    own = source_of_scale(graph)
    scales = {layer.name: layer.weights for layer in model.layers}
    input_step = 1 / min(model.record.preprocessing.std)
    least = 0.0
    for op in graph.operations:
        if op.target != target:
            continue
        sources = (op.source, op.other) if isinstance(op, Add) else (op.source,)
        steps = [known[own[name]].scale if own[name] in known else input_step for name in sources]
        if isinstance(op, Conv):
            weights = scales[op.name]
            assert isinstance(weights, LevelWeights)
            # A hair more, since deviations are rounded.
            least = max(least, 1.001 * steps[0] * float(weights.scales_O.max()))
        elif isinstance(op, Add):
            least = max(least, max(steps) / _RATIO)
    return least
