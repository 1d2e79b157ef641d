"""What a network costs a client, before it is trained: MACs, arena and time.

Arena and time are those of the runtime, with weights drawn at random: neither depends on what the
weights are but for how many are zero. The bytes of the file are another matter: see
``compress.estimate``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.client import Classifier
from squeezenet.client.latency import latency_ms as time_of_one_image
from squeezenet.codec.container import encode
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.types import (
    ActivationScale,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
)

_LEVEL_SPREAD = 0.7
"""Of the Laplace distribution of random levels: two in five are not zero, as in files of ``rd``."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """A network's costs per image.

    ``arena_bytes`` is what the runtime asks for with unpacked weights and portable kernels;
    ``latency_ms`` the median time of one image on this machine, one thread and its fastest kernels,
    None where nobody asked.
    """

    parameters: int
    weight_bytes: int
    macs: int
    arena_bytes: int
    latency_ms: float | None = None


def measure_costs(spec: SqueezeNetSpec, *, latency: bool = False) -> Costs:
    """Return the costs of a network.

    Raises:
        SpecError: it is no network that clients run.
    """
    counts = count(build_graph(spec))
    data = _random_file(spec)
    arena = Classifier(data, kernels="portable").arena_bytes
    return Costs(
        parameters=counts.parameters,
        weight_bytes=counts.weight_bytes,
        macs=counts.macs,
        arena_bytes=arena,
        latency_ms=time_of_one_image(Classifier(data)) if latency else None,
    )


def _random_file(spec: SqueezeNetSpec) -> bytes:
    """A ``.sqz`` of the network, with random levels and activation scales that fit any weights."""
    spec = dataclasses.replace(spec, batch_norm=False)
    graph = build_graph(spec)
    rng = np.random.default_rng(0)
    layers = []
    for conv in graph.convs:
        shape = conv.weight_shape
        levels = np.rint(rng.laplace(0, _LEVEL_SPREAD, shape)).clip(-127, 127).astype(np.int8)
        scales_O = round_scales(np.full(conv.out_channels, 2**-7))
        bias_O = round_biases(np.zeros(conv.out_channels), 1 / 1024)
        weights = LevelWeights(levels_OIHW=levels, scales_O=scales_O)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
    record = ModelRecord(
        spec=spec,
        preprocessing=default_preprocessing(spec),
        class_names=tuple(f"c{k}" for k in range(spec.num_classes)),
    )
    scales = {name: ActivationScale(scale=1.0, zero_point=0) for name in scaled_tensors(graph)}
    return encode(CompressedModel(record=record, layers=tuple(layers), activations=scales))
