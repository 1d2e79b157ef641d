"""What the layers of a network are given, before and after rounding the layers ahead of them.

A layer whose inputs x^ are no longer the original's x can make up for some of that. The weights
that come nearest to the original outputs W x are

    T = W E[x x^T] E[x^ x^T]^-1    (both matrices are covariances; the bias keeps the mean output),

and they are what is rounded (asymmetric calibration, arXiv 2504.02692). So errors do not add up
from layer to layer. It needs no gradients and few images: every position of one is a sample.
Legend: N images, G groups, P inputs of an output, Q outputs of a group, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from squeezenet.arch.graph import Add, Conv, Graph, LocalResponseNorm, MaxPool, Operation
from squeezenet.arch.liveness import lifetimes, live_activation_bytes
from squeezenet.codec.numerics import Float32Array
from squeezenet.compress.rate_distortion.arrays import Float64Array
from squeezenet.compress.rate_distortion.curvature import TINY, input_patches

MAX_IMAGES = 512
"""Images to run through both networks. An image has 169 positions in the last layers, so these give
more samples than a layer has inputs. It is a choice."""
MIN_IMAGES = 64
"""With fewer, weights are rounded as they are. It is a choice, not measured."""
MAX_BYTES = 1 << 31
"""Bytes that their activations may take. The ImageNet networks take less."""
MAX_POSITIONS = 150
"""Positions of an image that count, about. Neighbours are alike."""
DAMPING = 0.1
"""Share of the mean variance that is added to every input, in both matrices. On v1.1 the divergence
is lower than with 0.02 (docs/experiments/sequential_rounding.md)."""
_MAX_HALF = 65504.0
"""Largest number of 16 bits, in which activations are kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerInputs:
    """Inputs of one layer: covariances and means after rounding, and with the original's."""

    covariance_GPP: Float64Array
    cross_GPP: Float64Array
    mean_GP: Float64Array
    original_mean_GP: Float64Array

    def compensated(self, weight_OP: Float64Array) -> Float64Array:
        """Return the weights T that come nearest to the original outputs, (O, P)."""
        found = []
        num_groups, size, _ = self.covariance_GPP.shape
        for g, weight_QP in enumerate(np.split(weight_OP, num_groups)):
            covariance_PP = self.covariance_GPP[g]
            added_PP = (DAMPING * np.trace(covariance_PP) / size + TINY) * np.eye(size)
            found.append(
                np.linalg.solve(
                    covariance_PP + added_PP, (weight_QP @ (self.cross_GPP[g] + added_PP)).T
                ).T
            )
        return np.concatenate(found)

    def corrected_bias(
        self, weight_OP: Float64Array, bias_O: Float64Array, rounded_OP: Float64Array
    ) -> Float64Array:
        """Return the bias with which rounded weights leave the mean output as it was, (O,)."""
        num_groups = len(self.mean_GP)
        change = [
            weight_QP @ self.original_mean_GP[g] - rounded_QP @ self.mean_GP[g]
            for g, (weight_QP, rounded_QP) in enumerate(
                zip(np.split(weight_OP, num_groups), np.split(rounded_OP, num_groups), strict=True)
            )
        ]
        corrected_O: Float64Array = bias_O + np.concatenate(change)
        return corrected_O


@dataclass(kw_only=True)
class _Batch:
    """Tensors that are alive, by name: the original's, and those after rounding."""

    original: dict[str, torch.Tensor]
    rounded: dict[str, torch.Tensor]


class PairedActivations:
    """Some images on their way through a network and its rounded copy, a convolution at a time.

    ``inputs(conv)`` and then ``advance`` are called for every convolution, in the graph's order.
    """

    def __init__(self, graph: Graph, images: Sequence[torch.Tensor]) -> None:
        self._graph = graph
        self._next = 0
        self._last_read = {name: last for name, (_, last) in lifetimes(graph).items()}
        self._are_equal = True
        self._batches = [
            _Batch(original={graph.input: x_NCHW}, rounded={graph.input: x_NCHW})
            for x_NCHW in images
        ]

    def inputs(self, conv: Conv) -> LayerInputs | None:
        """Return what ``conv`` is given; None if it is what the original gives it."""
        if self._are_equal:
            return None
        size = conv.num_weights // conv.out_channels
        second = torch.zeros(conv.groups, size, size, dtype=torch.float64)
        cross = torch.zeros_like(second)
        mean = torch.zeros(conv.groups, size, dtype=torch.float64)
        original_mean = torch.zeros_like(mean)
        num = 0
        for batch in self._batches:
            rounded_GPM, original_GPM = (
                _samples(tensors[conv.source].float(), conv)
                for tensors in (batch.rounded, batch.original)
            )
            second += (rounded_GPM @ rounded_GPM.transpose(1, 2)).double()
            cross += (original_GPM @ rounded_GPM.transpose(1, 2)).double()
            mean += rounded_GPM.sum(dim=2).double()
            original_mean += original_GPM.sum(dim=2).double()
            num += rounded_GPM.shape[2]
        mean, original_mean = mean / num, original_mean / num
        return LayerInputs(
            covariance_GPP=(second / num - mean[:, :, None] * mean[:, None, :]).numpy(),
            cross_GPP=(cross / num - original_mean[:, :, None] * mean[:, None, :]).numpy(),
            mean_GP=mean.numpy(),
            original_mean_GP=original_mean.numpy(),
        )

    def advance(
        self,
        conv: Conv,
        original: tuple[Float32Array, Float32Array],
        rounded: tuple[Float32Array, Float32Array],
    ) -> None:
        """Run ``conv``, and what follows up to the next convolution. Pairs are (OIHW, O)."""
        operations = self._graph.operations
        assert operations[self._next] is conv
        stop = self._next + 1
        while stop < len(operations) and not isinstance(operations[stop], Conv):
            stop += 1
        for batch in self._batches:
            for tensors, (weight, bias) in (
                (batch.original, original),
                (batch.rounded, rounded),
            ):
                self._run_conv(tensors, conv, torch.from_numpy(weight), torch.from_numpy(bias))
                for operation in operations[self._next + 1 : stop]:
                    if operation.target != self._graph.output:
                        found = _run(operation, tensors)
                        target = self._graph.tensors[operation.target]
                        # Without ceil mode, windows that overhang the edge do not count.
                        found = found[:, :, : target.height, : target.width]
                        tensors[operation.target] = _stored(found)
                for name in [each for each in tensors if self._last_read[each] < stop]:
                    del tensors[name]
        self._next = stop
        self._are_equal = False

    def _run_conv(
        self,
        tensors: dict[str, torch.Tensor],
        conv: Conv,
        weight_OIHW: torch.Tensor,
        bias_O: torch.Tensor,
    ) -> None:
        """Write the output of ``conv`` to its channels of its target."""
        x_NCHW = tensors[conv.source].float()
        out_NCHW = functional.conv2d(
            x_NCHW, weight_OIHW, bias_O, conv.stride, conv.padding, groups=conv.groups
        )
        if conv.relu:
            out_NCHW = out_NCHW.relu_()
        target = self._graph.tensors[conv.target]
        if target.channels == conv.out_channels:
            tensors[conv.target] = _stored(out_NCHW)
            return
        if conv.target not in tensors:
            shape = (len(x_NCHW), target.channels, *out_NCHW.shape[2:])
            tensors[conv.target] = torch.zeros(shape, dtype=torch.float16)
        start = conv.target_start
        tensors[conv.target][:, start : start + conv.out_channels] = _stored(out_NCHW)


def num_paired_images(graph: Graph) -> int:
    """Return how many images ``PairedActivations`` should be given, by the memory they take."""
    live = live_activation_bytes(graph, element_bytes=2)
    peak = max(
        num_bytes
        for operation, num_bytes in zip(graph.operations, live, strict=True)
        if isinstance(operation, Conv) and operation.source != graph.input
    )
    return max(1, min(MAX_IMAGES, MAX_BYTES // (2 * peak)))


def _samples(x_NCHW: torch.Tensor, conv: Conv) -> torch.Tensor:
    """Return the inputs of some positions, (G, P, samples)."""
    patches_NPL = input_patches(x_NCHW, conv)
    some = patches_NPL[..., :: max(1, patches_NPL.shape[2] // MAX_POSITIONS)]
    num, _, positions = some.shape
    grouped = some.reshape(num, conv.groups, -1, positions)
    return grouped.permute(1, 2, 0, 3).flatten(2)


def _stored(x_NCHW: torch.Tensor) -> torch.Tensor:
    return x_NCHW.clamp(-_MAX_HALF, _MAX_HALF).half()


def _run(operation: Operation, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run an operation without weights."""
    x_NCHW = tensors[operation.source].float()
    match operation:
        case MaxPool():
            return functional.max_pool2d(x_NCHW, operation.kernel, operation.stride, ceil_mode=True)
        case Add():
            return x_NCHW + tensors[operation.other].float()
        case LocalResponseNorm():
            # torch divides alpha by the size too, as Caffe does.
            return functional.local_response_norm(
                x_NCHW, operation.size, operation.alpha, operation.beta, 1.0
            )
        case _:
            raise AssertionError(operation)
