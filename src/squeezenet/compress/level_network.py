"""A network of integer levels that is trained: levels, scales and biases."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedLayer, LevelWeights, round_scales
from squeezenet.compress.compressed_network import CompressedNetwork
from squeezenet.compress.level_search import LayerLevels
from squeezenet.compress.rates import MOST, NUM_CLASSES, increments

UP = 0.6
"""A magnitude is rounded up from this fraction on: smaller levels take fewer bits."""
_INSIDE = 0.25
"""How far inside of its level's cell a weight begins. Error feedback chooses many levels that are
not the nearest; at the edge of their cells they would all cross it in the first steps."""
_FOR_GOOD, _AT_ONCE = 2.0, 30.0
"""What a file too large by a hundredth does to the price, in hundredths: the first keeps sizes
where they shall be as training goes on, the second keeps that from swinging."""
_SCALE_UNIT, _BIAS_UNIT = 0.1, 0.1


class LevelNetwork(CompressedNetwork):
    """weight = level * scale of its output, the scale rounded as a file has it.

    A level is a trained number, rounded; rounding passes the gradient on (straight-through
    estimator, arXiv 1308.3432). Numbers begin where the original weights are, but inside of their
    levels' cells, so that the network begins as the file. All parameters count in units in which
    steps of the same size suit: levels, tenths of a scale, tenths of a layer's mean bias.
    """

    def __init__(
        self, network: nn.Module, graph: Graph, layers: tuple[CompressedLayer, ...]
    ) -> None:
        """``network`` has the original weights."""
        super().__init__(network, graph, layers)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("price", torch.zeros((), dtype=torch.float64))
        self.register_buffer("price_now", torch.zeros((), dtype=torch.float64))
        self.levels = nn.ParameterDict()
        self.gains = nn.ParameterDict()
        state = network.state_dict()
        for conv, key, layer in zip(graph.convs, self._keys, layers, strict=True):
            weights = layer.weights
            assert isinstance(weights, LevelWeights)
            scales_O = torch.from_numpy(weights.scales_O.copy())
            levels_OIHW = torch.from_numpy(weights.levels_OIHW.astype(np.float32))
            exact = state[f"{conv.key}.weight"].float().cpu() / scales_O[:, None, None, None]
            self.levels[key] = nn.Parameter(_inside(exact, levels_OIHW))
            self.gains[key] = nn.Parameter(torch.zeros(len(scales_O)))
            self.register_buffer(f"scale_{key}", scales_O)
            self.register_buffer(f"first_{key}", torch.zeros_like(levels_OIHW))
            self.register_buffer(f"class_{key}", torch.zeros_like(levels_OIHW, dtype=torch.uint8))
            self.register_buffer(f"further_{key}", torch.zeros(NUM_CLASSES, MOST))
            start_O = torch.from_numpy(layer.bias_O.copy())
            unit = _BIAS_UNIT * start_O.abs().mean().clamp_min(1e-6)
            self.register_buffer(f"bias_{key}", start_O)
            self.register_buffer(f"bias_unit_{key}", unit)
            self.biases[key] = nn.Parameter(torch.zeros(len(start_O)))

    def scale(self, key: str) -> torch.Tensor:
        """The current scales of a layer, rounded."""
        start = self.get_buffer(f"scale_{key}")
        exact: torch.Tensor = start * (1 + _SCALE_UNIT * self.gains[key]).clamp_min(0.5)
        rounded = torch.from_numpy(round_scales(exact.detach().cpu().numpy())).to(exact.device)
        return _passing(exact, rounded)

    def weight(self, key: str) -> torch.Tensor:
        exact: torch.Tensor = self.levels[key]
        return _passing(exact, _rounded(exact)) * self.scale(key)[:, None, None, None]

    def bias(self, key: str) -> torch.Tensor:
        moved: torch.Tensor = self.get_buffer(f"bias_unit_{key}") * self.biases[key]
        return self.get_buffer(f"bias_{key}") + moved

    def count_step(self) -> int:
        """Note that a step is done; return how many are."""
        steps = self.get_buffer("steps")
        steps += 1
        return int(steps)

    def set_price(self, nats_a_bit: float) -> None:
        """Let a bit cost so much from now on."""
        self.get_buffer("price").fill_(nats_a_bit)
        self.get_buffer("price_now").fill_(nats_a_bit)
        self._ask_increments()

    def press(self, excess: float) -> None:
        """Let bits cost more where the file is too large by the share ``excess``, less if not: at
        once, and for good by a little."""
        price = self.get_buffer("price")
        price *= math.exp(_FOR_GOOD * excess)
        self.get_buffer("price_now").copy_(price * math.exp(_AT_ONCE * excess))
        self._ask_increments()

    def _ask_increments(self) -> None:
        """Ask anew what more of each level takes; ``cost`` goes by the last answer."""
        shaped = {
            key: _rounded(value.detach().cpu()).flatten(2).long().numpy()
            for key, value in self.levels.items()
        }
        for key, found in increments(shaped).items():
            first = torch.from_numpy(found.first_OIK).reshape(self.levels[key].shape)
            self.get_buffer(f"first_{key}").copy_(first)
            classes = torch.from_numpy(found.classes_OIK).reshape(self.levels[key].shape)
            self.get_buffer(f"further_{key}").copy_(torch.from_numpy(found.further_CM))
            self.get_buffer(f"class_{key}").copy_(classes)

    def cost(self) -> torch.Tensor:
        """What grows with the magnitudes as the price of all levels' bits does, in nats; only its
        slope means something."""
        total = torch.zeros((), device=next(self.parameters()).device)
        for key, exact in self.levels.items():
            magnitude = exact.abs()
            below = magnitude.detach().floor().long().clamp_max(MOST - 1)
            further = self.get_buffer(f"further_{key}")
            classes = self.get_buffer(f"class_{key}").long()
            slope = torch.where(
                below == 0, self.get_buffer(f"first_{key}"), further[classes, below]
            )
            total = total + (magnitude * slope).sum()
        price: torch.Tensor = self.get_buffer("price_now").float() * total
        return price

    def layers(self, up: float = UP) -> dict[str, LayerLevels]:
        """What is trained so far, by the convolutions' names; ``up``: the fraction from which a
        magnitude is rounded up."""
        return {
            conv.name: LayerLevels(
                levels_OP=_rounded(self.levels[key].detach().cpu(), up).flatten(1).long().numpy(),
                scales_O=round_scales(self.scale(key).detach().cpu().numpy()),
                bias_O=self.bias(key).detach().cpu().double().numpy(),
            )
            for conv, key in zip(self._graph.convs, self._keys, strict=True)
        }


def _passing(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """The rounded values, whose gradient is that of the exact ones."""
    return exact + (rounded - exact).detach()


def _rounded(exact: torch.Tensor, up: float = UP) -> torch.Tensor:
    magnitude = (exact.detach().abs() + (1 - up)).floor().clamp_max(MOST)
    return magnitude * exact.detach().sign()


def _inside(exact: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The numbers next to ``exact`` that are rounded to ``levels``."""
    magnitude = levels.abs()
    # Of a level 0 the cell goes from -UP to UP; of others, from UP under to UP over.
    sign = torch.where(levels == 0, exact.sign(), levels.sign())
    low = torch.where(levels == 0, torch.zeros(()), magnitude - (1 - UP) + _INSIDE)
    return sign * torch.minimum(torch.maximum(exact * sign, low), magnitude + UP - _INSIDE)
