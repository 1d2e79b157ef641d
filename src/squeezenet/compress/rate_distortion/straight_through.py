"""A network that computes with rounded levels and trains the numbers that they are rounded from.

weight = level * scale of its output. Scales and biases are rounded as a file has them. Each level
is rounded from a real number of its own, by the Viterbi algorithm over an output's trellis: at the
least squared error + price * bits. Gradients of the rounded numbers go to the real ones unchanged
(the straight-through estimator, arXiv 1308.3432). Small steps add up there until a level changes.

There is no error feedback (``trellis_rounding``): training itself makes up for what a changed level
does. The first real numbers are the levels of a network that was rounded with it, so training
begins where that search ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from squeezenet._native import round_levels
from squeezenet.arch.graph import Graph
from squeezenet.codec.numerics import Float32Array, round_biases, round_scales
from squeezenet.codec.trellis import levels_of_codes
from squeezenet.compress.compressed_network import CompressedNetwork
from squeezenet.compress.rate_distortion.arrays import Float64Array
from squeezenet.compress.rate_distortion.bit_costs import (
    MAX_LEVEL,
    NUM_ACTIVITY_CLASSES,
    NUM_KERNEL_SUMS,
    NUM_PLACES,
    activity_classes,
    network_bit_costs,
)
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
)

SCALE_UNIT = 0.02
"""Unit of the scales' parameters, as a share of the scale."""
BIAS_UNIT = 0.1
"""Unit of the biases' parameters, in mean biases of a layer."""
ROUNDED_EVERY = 4
"""Steps from one rounding of all levels to the next. It takes about as long as a step."""
COSTS_EVERY = 48
"""Steps for which bit costs and contexts are kept."""
FIRST_PRICE = 0.05
"""Squared levels per bit at first: with it the levels of a finished search hardly change."""
_KINDS = {True: "1x1", False: "spatial"}
"""Names of the buffers of bit costs: of convolutions that are 1x1, and of others."""
_CONTEXTS = (NUM_KERNEL_SUMS, NUM_PLACES, NUM_ACTIVITY_CLASSES)
_TABLES = {
    "zero": _CONTEXTS,
    "nonzero": _CONTEXTS,
    "magnitude": (NUM_ACTIVITY_CLASSES, MAX_LEVEL + 1),
}
"""Tables of bit costs, and their shapes."""


class StraightThroughNetwork(CompressedNetwork):
    """Trains levels, scales and biases of ``start``, in units for which steps of one size suit.

    Buffers hold what is rounded, and the price of a bit, so a checkpoint of the module is all that
    resuming needs.
    """

    price: torch.Tensor
    num_steps: torch.Tensor

    def __init__(self, network: nn.Module, graph: Graph, start: QuantizedNetwork) -> None:
        super().__init__(network, graph, start.layers())
        self._start = start
        self.levels = nn.ParameterDict()
        self.scales = nn.ParameterDict()
        self.register_buffer("price", torch.tensor(FIRST_PRICE, dtype=torch.float64))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        for conv, key in zip(graph.convs, self._keys, strict=True):
            layer = start.levels[conv.name]
            levels_OIHW = torch.from_numpy(layer.levels_OP).float().reshape(conv.weight_shape)
            self.levels[key] = nn.Parameter(levels_OIHW.clone())
            self.register_buffer(f"rounded_{key}", levels_OIHW)
            # 32 bits: gloo sends no 16-bit integers from rank to rank.
            self.register_buffer(f"codes_{key}", torch.from_numpy(layer.codes_OP.astype(np.int32)))
            self.register_buffer(
                f"classes_{key}", torch.zeros(layer.codes_OP.shape, dtype=torch.uint8)
            )
            self.register_buffer(f"scale_{key}", torch.from_numpy(layer.scales_O.copy()))
            self.scales[key] = nn.Parameter(torch.zeros(conv.out_channels))
            bias_O = torch.from_numpy(layer.bias_O).float()
            self.register_buffer(f"bias_{key}", bias_O)
            unit = BIAS_UNIT * bias_O.abs().mean().clamp_min(1e-6)
            self.register_buffer(f"bias_unit_{key}", unit)
            self.biases[key] = nn.Parameter(torch.zeros(conv.out_channels))
        for kind in _KINDS.values():
            for table, shape in _TABLES.items():
                self.register_buffer(f"{table}_{kind}", torch.zeros(shape, dtype=torch.float64))
        self._update_costs()

    def weight(self, key: str) -> torch.Tensor:
        levels = self.levels[key]
        rounded_OIHW = levels + (self.get_buffer(f"rounded_{key}") - levels).detach()
        weight: torch.Tensor = rounded_OIHW * self._scale(key)[:, None, None, None]
        return weight

    def bias(self, key: str) -> torch.Tensor:
        exact_O = self._exact_bias(key)
        spacing = self._layer(key).bias_spacing(self._start.lambda_)
        return _rounded(exact_O, lambda bias_O: round_biases(bias_O, spacing))

    def _exact_bias(self, key: str) -> torch.Tensor:
        change: torch.Tensor = self.get_buffer(f"bias_unit_{key}") * self.biases[key]
        return self.get_buffer(f"bias_{key}") + change

    def _scale(self, key: str) -> torch.Tensor:
        exact_O = self.get_buffer(f"scale_{key}") * torch.exp(SCALE_UNIT * self.scales[key])
        return _rounded(exact_O, round_scales)

    def after_step(self) -> None:
        """Round the levels anew, every few steps."""
        self.num_steps += 1
        step = int(self.num_steps)
        if step % COSTS_EVERY == 0:
            self._update_costs()
        if step % ROUNDED_EVERY == 0:
            self.round()

    def round(self) -> None:
        """Round all levels at the present price."""
        order = sorted(self._keys, key=lambda key: -self.levels[key].numel())
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(self._round_layer, order))

    def _round_layer(self, key: str) -> None:
        levels = self.levels[key]
        codes_OP = np.empty((len(levels), levels[0].numel()), np.int16)
        kind = _KINDS[levels.shape[2] * levels.shape[3] == 1]
        trellis = self._layer(key).trellis
        zero, nonzero, magnitude = (
            self.get_buffer(f"{table}_{kind}").cpu().numpy() for table in _TABLES
        )
        round_levels(
            levels.detach().cpu().reshape(codes_OP.shape).double().numpy(),
            zero,
            nonzero,
            magnitude,
            self.get_buffer(f"classes_{key}").cpu().numpy(),
            codes_OP,
            codes_OP.shape[1],
            levels.shape[2] * levels.shape[3],
            trellis,
            float(self.price),
        )
        rounded = levels_of_codes(codes_OP.astype(np.int64)) if trellis else codes_OP
        self.get_buffer(f"codes_{key}").copy_(torch.from_numpy(codes_OP))
        self.get_buffer(f"rounded_{key}").copy_(
            torch.from_numpy(rounded.astype(np.float32)).reshape(levels.shape)
        )

    def _update_costs(self) -> None:
        """Take bit costs and contexts from the present levels."""
        codes = {
            key: self.get_buffer(f"codes_{key}").cpu().numpy().astype(np.int64)
            .reshape(*self.levels[key].shape[:2], -1)
            for key in self._keys
        }  # fmt: skip
        costs = network_bit_costs(codes)
        for is_1x1, kind in _KINDS.items():
            found = costs[is_1x1]
            tables = (found.zero_SPC, found.nonzero_SPC, found.magnitude_CM)
            for table, values in zip(_TABLES, tables, strict=True):
                self.get_buffer(f"{table}_{kind}").copy_(torch.from_numpy(values))
        for key, codes_OIK in codes.items():
            classes = activity_classes(codes_OIK).astype(np.uint8)
            buffer = self.get_buffer(f"classes_{key}")
            buffer.copy_(torch.from_numpy(classes).reshape(buffer.shape))

    def _layer(self, key: str) -> QuantizedLayer:
        return self._start.levels[self._graph.convs[self._keys.index(key)].name]

    def network(self) -> QuantizedNetwork:
        """Return the network as it is rounded now."""
        layers = {}
        with torch.no_grad():
            for conv, key in zip(self._graph.convs, self._keys, strict=True):
                layers[conv.name] = dataclasses.replace(
                    self._start.levels[conv.name],
                    codes_OP=self.get_buffer(f"codes_{key}").cpu().numpy().astype(np.int64),
                    scales_O=self._scale(key).cpu().numpy().astype(np.float32),
                    bias_O=self._exact_bias(key).cpu().double().numpy(),
                )
        return dataclasses.replace(self._start, levels=layers)


def _rounded(
    exact_O: torch.Tensor, rounding: Callable[[Float64Array], Float32Array]
) -> torch.Tensor:
    """Return rounded numbers with the gradients of exact ones."""
    rounded_O = torch.from_numpy(rounding(exact_O.detach().cpu().double().numpy()))
    return exact_O + (rounded_O.to(exact_O.device) - exact_O).detach()
