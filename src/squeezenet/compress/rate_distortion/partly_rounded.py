"""A network of which some outputs are rounded and the others are trained to make good for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedLayer
from squeezenet.compress.compressed_network import CompressedNetwork
from squeezenet.compress.rate_distortion.level_search import NetworkLevels, Outputs, Weights

_BIAS_UNIT = 0.1


class PartRounded(CompressedNetwork):
    """weight = level * scale of its output; the levels of rounded outputs are whole and stay, the
    others are any numbers, but weights that are zero, as pruned ones are, stay zero.

    All parameters count in units in which steps of the same size suit: levels, and tenths of a
    layer's mean bias.
    """

    def __init__(
        self,
        network: nn.Module,
        graph: Graph,
        layers: tuple[CompressedLayer, ...],
        levels: NetworkLevels,
        rounded: Outputs,
        weights: Weights,
    ) -> None:
        """``layers`` are those of ``levels``, as a file has them; what is not ``rounded`` begins
        with ``weights``."""
        super().__init__(network, graph, layers)
        self.levels = nn.ParameterDict()
        for conv, key, layer in zip(graph.convs, self._keys, layers, strict=True):
            scales_O = torch.from_numpy(levels[conv.name].scales_O.copy())
            whole = torch.from_numpy(levels[conv.name].levels_OP).float().reshape(conv.weight_shape)
            outputs = torch.from_numpy(rounded[conv.name])
            weight_OIHW, bias_O = (torch.from_numpy(array.copy()) for array in weights[conv.name])
            exact = weight_OIHW / scales_O[:, None, None, None]
            start = torch.where(outputs[:, None, None, None], whole, exact)
            self.levels[key] = nn.Parameter(start.clone())
            self.register_buffer(f"scale_{key}", scales_O)
            self.register_buffer(f"held_{key}", outputs[:, None, None, None] | (exact == 0))
            self.register_buffer(f"start_{key}", start)
            start_O = torch.where(outputs, torch.from_numpy(layer.bias_O.copy()), bias_O)
            unit = _BIAS_UNIT * start_O.abs().mean().clamp_min(1e-6)
            self.register_buffer(f"bias_{key}", start_O)
            self.register_buffer(f"bias_unit_{key}", unit)
            self.biases[key] = nn.Parameter(torch.zeros(len(start_O)))

    def weight(self, key: str) -> torch.Tensor:
        weight: torch.Tensor = (
            self.levels[key] * self.get_buffer(f"scale_{key}")[:, None, None, None]
        )
        return weight

    def bias(self, key: str) -> torch.Tensor:
        moved: torch.Tensor = self.get_buffer(f"bias_unit_{key}") * self.biases[key]
        return self.get_buffer(f"bias_{key}") + moved

    def hold(self) -> None:
        """Put back what stays, after a step."""
        with torch.no_grad():
            for key, levels in self.levels.items():
                held, start = self.get_buffer(f"held_{key}"), self.get_buffer(f"start_{key}")
                levels.copy_(torch.where(held, start, levels))

    def weights(self) -> Weights:
        """What is trained so far."""
        with torch.no_grad():
            return {
                conv.name: (
                    self.weight(key).cpu().numpy().astype(np.float32),
                    self.bias(key).cpu().numpy().astype(np.float32),
                )
                for conv, key in zip(self._graph.convs, self._keys, strict=True)
            }
