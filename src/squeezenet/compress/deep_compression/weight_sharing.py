"""Weight sharing: k-means per layer, then the centroids fine-tuned by gradient.

The second step of Deep Compression (arXiv 1510.00149, section 3): weight = codebook[code]. K-means
is initialised linearly, which keeps centroids for the few large weights, which matter most. A
centroid's gradient is the sum over its weights. Code 0 is for pruned weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from squeezenet.arch.graph import Graph
from squeezenet.codec.numerics import round_mantissa
from squeezenet.codec.types import CodebookWeights, CompressedLayer
from squeezenet.compress.compressed_network import CompressedNetwork

MAX_ITERATIONS = 100
"""Of Lloyd's algorithm, which mostly converges before."""
MANTISSA_BITS = 10
"""Of centroids and biases, as half precision has. The other 13 bits of float32 would be a tenth of
a small file, and bring no accuracy."""


def kmeans_linear(values: npt.NDArray[np.float64], num_clusters: int) -> npt.NDArray[np.float64]:
    """Return at most ``num_clusters`` centroids of 1-D values, ascending.

    Lloyd's algorithm from centroids spaced evenly between the smallest and the largest value.
    Clusters that end empty are dropped.
    """
    ordered = np.sort(values)
    centroids = np.linspace(ordered[0], ordered[-1], num_clusters)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    counts = np.zeros(num_clusters, np.int64)
    for _ in range(MAX_ITERATIONS):
        edges = np.searchsorted(ordered, (centroids[:-1] + centroids[1:]) / 2)
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        counts = np.diff(bounds)
        totals = np.diff(sums[bounds])
        moved = np.where(counts > 0, totals / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.unique(centroids[counts > 0])


def share_layer(weight_OIHW: npt.NDArray[np.float32], bits: int) -> CodebookWeights:
    """Cluster the non-zero weights into at most 2^bits - 1 values."""
    codes_OIHW = np.zeros(weight_OIHW.shape, np.uint8)
    kept = weight_OIHW != 0
    if not kept.any():
        return CodebookWeights(codes_OIHW=codes_OIHW, codebook=np.zeros(1, np.float32))
    values = weight_OIHW[kept].astype(np.float64)
    centroids = kmeans_linear(values, 2**bits - 1)
    nearest = np.searchsorted((centroids[:-1] + centroids[1:]) / 2, values)
    codes_OIHW[kept] = nearest + 1
    codebook = np.concatenate([[0.0], centroids]).astype(np.float32)
    return CodebookWeights(codes_OIHW=codes_OIHW, codebook=codebook)


def share_network(
    state: Mapping[str, torch.Tensor], graph: Graph, bits: Mapping[str, int]
) -> tuple[CompressedLayer, ...]:
    """Return ``share_layer`` of every layer of a state_dict without batch normalisation.

    ``bits``: bits per weight, by the name of the layer.
    """
    return tuple(
        CompressedLayer(
            name=conv.name,
            weights=share_layer(
                state[f"{conv.key}.weight"].detach().cpu().numpy(), bits[conv.name]
            ),
            bias_O=state[f"{conv.key}.bias"].detach().cpu().numpy().astype(np.float32),
        )
        for conv in graph.convs
    )


def with_shared_temperature(
    layers: tuple[CompressedLayer, ...], temperature: float
) -> tuple[CompressedLayer, ...]:
    """Return the layers of a network with its logits divided by ``temperature``."""
    *others, head = layers
    assert isinstance(head.weights, CodebookWeights)
    factor = np.float32(1 / temperature)
    weights = dataclasses.replace(head.weights, codebook=head.weights.codebook * factor)
    return (*others, dataclasses.replace(head, weights=weights, bias_O=head.bias_O * factor))


def round_floats(layers: tuple[CompressedLayer, ...]) -> tuple[CompressedLayer, ...]:
    """Return the layers with centroids and biases rounded to ``MANTISSA_BITS``."""
    return tuple(
        CompressedLayer(
            name=layer.name,
            weights=CodebookWeights(
                codes_OIHW=layer.weights.codes_OIHW,
                codebook=round_mantissa(layer.weights.codebook, MANTISSA_BITS),
            ),
            bias_O=round_mantissa(layer.bias_O, MANTISSA_BITS),
        )
        for layer in layers
        if isinstance(layer.weights, CodebookWeights)
    )


class _LookUp(torch.autograd.Function):
    """weight = centroids[codes]; a centroid's gradient is the sum over its weights."""

    @staticmethod
    def forward(ctx: Any, centroids: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(codes)
        ctx.num_centroids = len(centroids)
        return centroids.take(codes)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (codes,) = ctx.saved_tensors
        (gradient,) = gradients
        # In float64, so that the sum of thousands of gradients keeps its digits. Apple's GPU has no
        # float64.
        precise = torch.float32 if gradient.device.type == "mps" else torch.float64
        total = gradient.new_zeros(ctx.num_centroids, dtype=precise)
        total.index_add_(0, codes.reshape(-1), gradient.reshape(-1).to(precise))
        return total.to(gradient.dtype), None


def _look_up(centroids: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    weight: torch.Tensor = _LookUp.apply(centroids, codes)  # type: ignore[no-untyped-call]
    return weight


class SharedNetwork(CompressedNetwork):
    """A network whose weights are looked up in trainable codebooks.

    The parameter of centroid k is its distance from the k-means value times sqrt(n_k), where n_k is
    its number of weights. One unit of it is one unit in weight space, so learning rates that suit
    the network suit the codebooks.
    """

    def __init__(
        self, network: nn.Module, graph: Graph, layers: tuple[CompressedLayer, ...]
    ) -> None:
        super().__init__(network, graph, layers)
        self.offsets = nn.ParameterDict()
        for key, layer in zip(self._keys, layers, strict=True):
            weights = layer.weights
            assert isinstance(weights, CodebookWeights)
            count = np.bincount(weights.codes_OIHW.reshape(-1), minlength=len(weights.codebook))
            scale = 1 / np.sqrt(np.maximum(count, 1))
            scale[0] = 0.0  # pruned weights stay zero
            self.offsets[key] = nn.Parameter(torch.zeros(len(weights.codebook)))
            codes = torch.from_numpy(weights.codes_OIHW.astype(np.int64))
            self.register_buffer(f"codes_{key}", codes)
            self.register_buffer(f"start_{key}", torch.from_numpy(weights.codebook.copy()))
            self.register_buffer(f"scale_{key}", torch.from_numpy(scale.astype(np.float32)))

    def codebook(self, key: str) -> torch.Tensor:
        """The current centroids of a layer; entry 0 is zero."""
        start, scale = self.get_buffer(f"start_{key}"), self.get_buffer(f"scale_{key}")
        return torch.addcmul(start, scale, self.offsets[key])

    def weight(self, key: str) -> torch.Tensor:
        return _look_up(self.codebook(key), self.get_buffer(f"codes_{key}"))

    def layers(self) -> tuple[CompressedLayer, ...]:
        """Return the layers with the current codebooks and biases."""
        layers = []
        for conv, key in zip(self._graph.convs, self._keys, strict=True):
            codebook = self.codebook(key).detach().cpu().numpy().astype(np.float32)
            codes = self.get_buffer(f"codes_{key}").cpu().numpy().astype(np.uint8)
            bias_O = self.biases[key].detach().cpu().numpy().astype(np.float32)
            weights = CodebookWeights(codes_OIHW=codes, codebook=codebook)
            layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
        return tuple(layers)
