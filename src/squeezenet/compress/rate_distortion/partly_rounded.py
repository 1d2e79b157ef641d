"""A network with some outputs rounded, whose other outputs are trained to compensate.

weight = level * scale of its output. Levels of rounded outputs are whole and stay; the others are
real numbers. Weights that are zero, as pruned ones are, stay zero.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.compress.compressed_network import CompressedNetwork
from squeezenet.compress.rate_distortion.level_search import FixedOutputs
from squeezenet.compress.rate_distortion.quantized_network import Weights

BIAS_UNIT = 0.1
"""Unit of the biases' parameters, in mean biases of a layer. No measurement is on record."""


class PartlyRoundedNetwork(CompressedNetwork):
    """Trains levels and biases of the outputs that are not fixed.

    Parameters are in units for which steps of one size suit: levels, and ``BIAS_UNIT`` for biases.
    """

    def __init__(
        self, network: nn.Module, graph: Graph, fixed: FixedOutputs, weights: Weights
    ) -> None:
        """``fixed``: a quantized network, and its outputs that are rounded. The other outputs start
        from ``weights``, at the scales of the quantized network."""
        layers = fixed.network.layers()
        super().__init__(network, graph, layers)
        self.levels = nn.ParameterDict()
        for conv, key, layer in zip(graph.convs, self._keys, layers, strict=True):
            quantized = fixed.network.levels[conv.name]
            scales_O = torch.from_numpy(quantized.scales_O.copy())
            whole = torch.from_numpy(quantized.levels_OP).float().reshape(conv.weight_shape)
            fixed_O = torch.from_numpy(fixed.outputs[conv.name])
            weight_OIHW, bias_O = (torch.from_numpy(array.copy()) for array in weights[conv.name])
            exact = weight_OIHW / scales_O[:, None, None, None]
            start = torch.where(fixed_O[:, None, None, None], whole, exact)
            self.levels[key] = nn.Parameter(start.clone())
            self.register_buffer(f"scale_{key}", scales_O)
            self.register_buffer(f"held_{key}", fixed_O[:, None, None, None] | (exact == 0))
            self.register_buffer(f"start_{key}", start)
            start_O = torch.where(fixed_O, torch.from_numpy(layer.bias_O.copy()), bias_O)
            unit = BIAS_UNIT * start_O.abs().mean().clamp_min(1e-6)
            self.register_buffer(f"bias_{key}", start_O)
            self.register_buffer(f"bias_unit_{key}", unit)
            self.biases[key] = nn.Parameter(torch.zeros(len(start_O)))

    def weight(self, key: str) -> torch.Tensor:
        weight: torch.Tensor = (
            self.levels[key] * self.get_buffer(f"scale_{key}")[:, None, None, None]
        )
        return weight

    def bias(self, key: str) -> torch.Tensor:
        change: torch.Tensor = self.get_buffer(f"bias_unit_{key}") * self.biases[key]
        return self.get_buffer(f"bias_{key}") + change

    def hold(self) -> None:
        """Restore the levels that must not change, after a step."""
        with torch.no_grad():
            for key, levels in self.levels.items():
                held, start = self.get_buffer(f"held_{key}"), self.get_buffer(f"start_{key}")
                levels.copy_(torch.where(held, start, levels))

    def weights(self) -> Weights:
        """Return the weights and biases as trained so far."""
        with torch.no_grad():
            return {
                conv.name: (
                    self.weight(key).cpu().numpy().astype(np.float32),
                    self.bias(key).cpu().numpy().astype(np.float32),
                )
                for conv, key in zip(self._graph.convs, self._keys, strict=True)
            }
