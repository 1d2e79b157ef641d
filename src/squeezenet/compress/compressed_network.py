"""A network that computes its weights from what a file will hold, so that this can be trained.

The forward pass is that of the original module, without batch normalisation and dropout. Only the
weights and biases are replaced.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedLayer


class CompressedNetwork(nn.Module):
    """Run ``network`` with weights that a subclass computes. Biases are parameters as well."""

    def __init__(
        self, network: nn.Module, graph: Graph, layers: tuple[CompressedLayer, ...]
    ) -> None:
        super().__init__()
        self._graph = graph
        self._network = [network]  # in a list: its own parameters must not be trained
        self._keys = [conv.key.replace(".", "/") for conv in graph.convs]
        self.biases = nn.ParameterDict()
        for key, layer in zip(self._keys, layers, strict=True):
            self.biases[key] = nn.Parameter(torch.from_numpy(layer.bias_O.copy()))

    def weight(self, key: str) -> torch.Tensor:
        """The current weight of a layer, OIHW."""
        raise NotImplementedError

    def bias(self, key: str) -> torch.Tensor:
        """The current bias of a layer, (O,)."""
        bias: torch.Tensor = self.biases[key]
        return bias

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        state = {}
        for conv, key in zip(self._graph.convs, self._keys, strict=True):
            state[f"{conv.key}.weight"] = self.weight(key)
            state[f"{conv.key}.bias"] = self.bias(key)
        # Batch normalisation is folded. Dropout is off: beside a KL divergence of 0.04 nats from
        # the original, it alone made 0.7 nats (docs/experiments).
        network = self._network[0].to(x_NCHW.device).eval()
        result: torch.Tensor = functional_call(network, state, (x_NCHW,))
        return result
