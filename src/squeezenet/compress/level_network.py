"""A network of integer levels whose scales and biases are trained."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedLayer, LevelWeights, round_scales
from squeezenet.compress.compressed_network import CompressedNetwork


class LevelNetwork(CompressedNetwork):
    """weight = level * scale of its output, the scale rounded as a file has it.

    The parameter of a scale is its distance from its start times the length of its levels, so
    that one unit along it is one unit in weight space, as in ``SharedNetwork``. Rounding passes
    the gradient on.
    """

    def __init__(
        self, network: nn.Module, graph: Graph, layers: tuple[CompressedLayer, ...]
    ) -> None:
        super().__init__(network, graph, layers)
        self.offsets = nn.ParameterDict()
        for key, layer in zip(self._keys, layers, strict=True):
            weights = layer.weights
            assert isinstance(weights, LevelWeights)
            levels_OIHW = weights.levels_OIHW.astype(np.float32)
            length_O = np.sqrt(np.square(levels_OIHW).sum(axis=(1, 2, 3)))
            self.offsets[key] = nn.Parameter(torch.zeros(len(length_O)))
            self.register_buffer(f"levels_{key}", torch.from_numpy(levels_OIHW))
            self.register_buffer(f"start_{key}", torch.from_numpy(weights.scales_O.copy()))
            self.register_buffer(f"unit_{key}", torch.from_numpy(1 / np.maximum(length_O, 1)))

    def scale(self, key: str) -> torch.Tensor:
        """The current scales of a layer, rounded."""
        start, unit = self.get_buffer(f"start_{key}"), self.get_buffer(f"unit_{key}")
        exact = torch.addcmul(start, unit, self.offsets[key])
        exact = torch.maximum(exact, start / 2)  # stays above 0
        rounded = torch.from_numpy(round_scales(exact.detach().cpu().numpy())).to(exact.device)
        return exact + (rounded - exact).detach()

    def weight(self, key: str) -> torch.Tensor:
        return self.get_buffer(f"levels_{key}") * self.scale(key)[:, None, None, None]

    def scales_and_biases(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """By the convolutions' names, on the CPU."""
        return {
            conv.name: (
                torch.from_numpy(round_scales(self.scale(key).detach().cpu().numpy())),
                self.biases[key].detach().cpu(),
            )
            for conv, key in zip(self._graph.convs, self._keys, strict=True)
        }
