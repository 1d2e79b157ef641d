"""Search for the levels of a whole network at one λ: minimise J = KL + λ * bits.

One Lagrange multiplier λ, in nats per bit, holds for all layers. The predicted KL is the sum over
layers (``layer_search``). Bits depend on the levels of the round before (``bit_costs``), so
rounding is repeated: narrowly, each layer by itself, and at last one layer after another, so that
each makes up for the errors of those before it (``layer_inputs``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from squeezenet.arch.graph import Graph
from squeezenet.codec.numerics import Float32Array
from squeezenet.compress.rate_distortion.arrays import Float64Array, Levels
from squeezenet.compress.rate_distortion.bit_costs import activity_classes, network_bit_costs
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.layer_inputs import MIN_IMAGES, PairedActivations
from squeezenet.compress.rate_distortion.layer_search import LayerSearch
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
    Weights,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.errors import WeightsError
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks

NUM_ROUNDS = 3
"""Rounds of rounding. With six or ten the predicted KL is the same (docs/experiments)."""


class LevelSearch:
    """The weights of a network, and what errors in them cost. Rank 0 rounds for all ranks.

    ``images()``: some preprocessed batches NCHW to run through the network as it is rounded; with
    none, each layer is rounded as if the others were not. ``class_roots_ORP``: ``class_fisher`` of
    the last layer.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        curvatures: Mapping[str, Curvature],
        ranks: Ranks = ONE_RANK,
        *,
        images: Callable[[], Sequence[torch.Tensor]] = tuple,
        class_roots_ORP: Float32Array | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._graph, self._curvatures, self._ranks = graph, curvatures, ranks
        self._images = images
        self._progress = progress or SilentProgress()
        self.weights = weights
        self._layers = {}
        for conv in graph.convs:
            # The first layer has no trellis: its small levels let the integer kernels add up
            # faster, and it does most of the work per weight (docs/experiments).
            trellis = conv.source != graph.input
            roots_ORP = class_roots_ORP if conv is graph.convs[-1] else None
            try:
                self._layers[conv.name] = LayerSearch(
                    conv, trellis, *weights[conv.name], curvatures[conv.name], roots_ORP
                )
            except np.linalg.LinAlgError:
                raise WeightsError(
                    f"{conv.name}: inputs or gradients differ so much in size that the layer's "
                    "curvature cannot be inverted; its weights or those before it explode"
                ) from None

    @property
    def num_weights(self) -> int:
        return sum(layer.weight_OP.size for layer in self._layers.values())

    def lambda_for(self, divergence: float) -> float:
        """Return the λ, in nats per bit, at which rounding is predicted to cost ``divergence``.

        A finely rounded weight costs λ / (2 ln 2) nats.
        """
        return 2 * math.log(2) * divergence / self.num_weights

    def estimate(self, lambda_: float) -> QuantizedNetwork:
        """Round every layer by itself, narrowly. The size is within some percent of ``round``'s."""
        return self._ranks.on_main(lambda: self._estimate(lambda_))

    def round(self, lambda_: float, width: SearchWidth) -> QuantizedNetwork:
        """Round the layers one after another; each makes up for those before it."""
        return self._ranks.on_main(lambda: self._round(lambda_, width))

    def _estimate(self, lambda_: float) -> QuantizedNetwork:
        scales = {name: layer.initial_scales(lambda_) for name, layer in self._layers.items()}
        codes = {name: layer.initial_codes(scales[name]) for name, layer in self._layers.items()}
        levels: dict[str, QuantizedLayer] = {}
        for _ in range(NUM_ROUNDS):
            levels = self._estimate_once(codes, scales, lambda_)
            codes = {name: layer.codes_OP for name, layer in levels.items()}
        return QuantizedNetwork(levels=levels, lambda_=lambda_)

    def _estimate_once(
        self, codes: Mapping[str, Levels], scales: Mapping[str, Float32Array], lambda_: float
    ) -> dict[str, QuantizedLayer]:
        """Round every layer with the contexts, and their bits, that ``codes`` make."""
        shaped = {name: layer.kernels(codes[name]) for name, layer in self._layers.items()}
        bit_costs = network_bit_costs(shaped)

        def rounded(name: str) -> QuantizedLayer:
            codes_OIK = shaped[name]
            return self._layers[name].round(
                scales[name],
                bit_costs[codes_OIK.shape[2] == 1],
                activity_classes(codes_OIK),
                lambda_,
                NARROWEST,
            )

        # The largest first, so that no thread is left alone with one in the end.
        names = sorted(shaped, key=lambda name: -shaped[name].size)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            found = dict(zip(names, pool.map(rounded, names), strict=True))
        return {name: found[name] for name in shaped}

    def _round(self, lambda_: float, width: SearchWidth) -> QuantizedNetwork:
        estimate = self._estimate(lambda_)  # contexts, and their bits
        shaped = {
            name: layer.kernels(estimate.levels[name].codes_OP)
            for name, layer in self._layers.items()
        }
        bit_costs = network_bit_costs(shaped)
        images = self._images()
        enough = sum(map(len, images)) >= MIN_IMAGES
        activations = PairedActivations(self._graph, images) if enough else None
        levels: dict[str, QuantizedLayer] = {}
        with (
            ThreadPoolExecutor(torch.get_num_threads()) as pool,
            self._progress.task("round", total=self.num_weights, unit="weight") as task,
        ):
            for conv in self._graph.convs:
                layer, codes_OIK = self._layers[conv.name], shaped[conv.name]
                found = layer.round(
                    layer.initial_scales(lambda_, by_class=True),
                    bit_costs[codes_OIK.shape[2] == 1],
                    activity_classes(codes_OIK),
                    lambda_,
                    width,
                    inputs=activations.inputs(conv) if activations else None,
                    by_class=True,
                    pool=pool,
                )
                levels[conv.name] = found
                task.advance(conv.num_weights)
                if activations and conv is not self._graph.convs[-1]:
                    activations.advance(conv, self.weights[conv.name], found.weight_and_bias())
        return QuantizedNetwork(levels=levels, lambda_=lambda_)

    def predicted_divergence(self, network: QuantizedNetwork) -> float:
        """Return the KL divergence that the quadratic model predicts, in nats."""
        return sum(float(errors_O.sum()) for errors_O in self.predicted_errors(network).values())

    def predicted_errors(self, network: QuantizedNetwork) -> dict[str, Float64Array]:
        """Return each output's part of it, (O,), by the convolutions' names."""
        return {
            name: layer.predicted_errors(network.levels[name].weight_OP)
            for name, layer in self._layers.items()
        }
