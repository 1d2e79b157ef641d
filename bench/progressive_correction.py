"""Statistics of a coarse network brought back to the exact one's, for bench/progressive.py.

Layer by layer in the order of the network, each seeing what the corrected layers before it give:
every output of a convolution gets the mean of the exact network, and its deviation if scales are
corrected, too. Needs pictures, but no labels.

Legend: N images, O output channels, H W C of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from squeezenet.arch.graph import build_graph
from squeezenet.codec.numerics import bias_shift, round_biases, round_scales
from squeezenet.codec.types import CompressedModel, LevelWeights
from squeezenet.images.preprocess import normalise
from squeezenet.model.load import from_compressed

_GAINS = (0.5, 2.0)
"""Least and largest change of a scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """Pictures to correct on, uint8; whether ``scales`` are corrected beside biases."""

    pixels_NHWC: npt.NDArray[np.uint8]
    scales: bool


def corrected(
    coarse: CompressedModel, exact: CompressedModel, names: Sequence[str], correction: Correction
) -> CompressedModel:
    """Correct the scales and biases of the layers ``names`` of a coarse network."""
    x = torch.from_numpy(normalise(correction.pixels_NHWC, exact.record.preprocessing))
    convs = [conv for conv in build_graph(exact.record.spec).convs if conv.name in names]
    statistics: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    moved: dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = {}
    layers = {layer.name: layer for layer in coarse.layers}

    def note(name: str, y: torch.Tensor) -> None:
        statistics[name] = y.mean((0, 2, 3)), y.std((0, 2, 3))

    def move(name: str, y: torch.Tensor) -> torch.Tensor:
        weights, bias = layers[name].weights, torch.from_numpy(layers[name].bias_O)
        assert isinstance(weights, LevelWeights)
        mean, std = statistics[name]
        gain = torch.ones_like(mean)
        found = y.std((0, 2, 3))
        if correction.scales:
            gain = torch.where(found > 0, std / found.clamp_min(1e-12), gain).clamp(*_GAINS)
        scales_O = round_scales(weights.scales_O * gain.numpy())
        gain = torch.from_numpy(scales_O / weights.scales_O)
        y = (y - bias[:, None, None]) * gain[:, None, None]
        later = mean - y.mean((0, 2, 3))
        moved[name] = scales_O, later.numpy()
        return y + later[:, None, None]

    with torch.no_grad():
        for model, hook in ((exact, note), (coarse, move)):
            module = from_compressed(model).module.eval()
            for conv in convs:
                module.get_submodule(conv.key).register_forward_hook(
                    lambda _, __, y, name=conv.name, hook=hook: hook(name, y)
                )
            module(x)
    found = []
    for layer, other in zip(coarse.layers, exact.layers, strict=True):
        if layer.name in moved:
            assert isinstance(layer.weights, LevelWeights)
            scales_O, bias_O = moved[layer.name]
            step = 2.0 ** -bias_shift(other.bias_O)
            weights = replace(layer.weights, scales_O=scales_O)
            bias_O = round_biases(bias_O.astype(np.float64), step)
            layer = replace(layer, weights=weights, bias_O=bias_O)
        found.append(layer)
    return CompressedModel(
        record=coarse.record, layers=tuple(found), activations=coarse.activations
    )
