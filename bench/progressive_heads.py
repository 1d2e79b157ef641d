"""Small heads on pooled features, for bench/progressive.py: distilled, rounded, coded.

A head is one matrix (full), two (of rank r), or two in front of the network's own classifier. All
are 1x1 convolutions, so they would be layers of the file: rounded by method rd on the trellis,
with the covariance of their inputs and the Fisher matrix of their outputs, and coded by the
range coder after the layers before them.

Legend: N images, C features, R rank, K classes, O outputs, P inputs of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from squeezenet.codec.numerics import Float32Array, round_biases, round_scales
from squeezenet.codec.trellis import to_levels
from squeezenet.codec.types import CompressedLayer, LevelWeights
from squeezenet.compress.rate_distortion.bit_costs import BitCosts, activity_classes
from squeezenet.compress.rate_distortion.layer_search import (
    DEAD_ZONE,
    MAX_CODE,
    SCALE_FACTOR,
    mean_log_curvature,
)
from squeezenet.compress.rate_distortion.trellis_rounding import (
    ErrorCost,
    InputCost,
    SearchWidth,
    round_layer,
)
from squeezenet.evaluation.metrics import kl_divergence, softmax

Float64Array = npt.NDArray[np.float64]
Matrix = tuple[Float64Array, Float64Array]
"""Weights (O, P) and biases (O,)."""
Classes = Matrix
"""The classifier of the network: weights (K, P) and biases (K,)."""
_WIDTH = SearchWidth(survivors=2, scales=1)
_ROUNDS = 3
"""Roundings of a matrix, each with the coder's contexts counted in the one before."""
_OFF_DIAGONAL = 0.5
"""Share of the output Fisher's off-diagonal entries, as in compress/rate_distortion."""
_BATCH = 256
_QUIET = 0.1
"""Share of the mean deviation that is added to each feature's: weights of features that hardly vary
would be large, and one scale serves all weights."""
_BIAS_STEP = 1 / 4
"""Of a logit. Rounding errors of biases then cost 0.003 nats, and a finer step takes more bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Features (N, C) of pictures and the whole network's logits (N, K) on them."""

    features_NC: Float32Array
    logits_NK: Float32Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """Matrices of a head after rounding; ``classifier`` is the network's own, if it ends in it."""

    matrices: tuple[CompressedLayer, ...]
    classifier: Classes | None

    @property
    def float_matrices(self) -> list[Matrix]:
        """The rounded matrices as float64."""
        return [
            (x.weights.dequantize()[:, :, 0, 0].astype(np.float64), x.bias_O.astype(np.float64))
            for x in self.matrices
        ]

    def logits(self, features_NC: Float32Array) -> Float32Array:
        """Compute logits (N, K) with the rounded weights."""
        return run_matrices(self.float_matrices, self.classifier, features_NC)


def run_matrices(
    matrices: Sequence[Matrix], classifier: Classes | None, features_NC: Float32Array
) -> Float32Array:
    """Compute the logits (N, K) of a head."""
    x_NP: Float64Array = features_NC.astype(np.float64)
    for w_OP, bias_O in matrices:
        x_NP = x_NP @ w_OP.T + bias_O
    if classifier is not None:
        x_NP = np.maximum(x_NP, 0) @ classifier[0].T + classifier[1]
    return x_NP.astype(np.float32)


def mean_kl(matrices: Sequence[Matrix], classifier: Classes | None, sample: Sample) -> float:
    """Mean KL divergence of a head from the whole network, in nats."""
    logits_NK = run_matrices(matrices, classifier, sample.features_NC)
    return float(kl_divergence(sample.logits_NK, logits_NK).mean())


def train_head(
    learn: Sample,
    held_out: Sample,
    rank: int | None,
    classifier: Classes | None = None,
    *,
    epochs: int,
) -> list[Matrix]:
    """Train a head by distillation; return matrices (O, P) with biases (O,), in float.

    ``rank`` None is one matrix. The weights of the epoch with the least KL on ``held_out`` are
    kept. With ``classifier``, the matrices give its inputs, before a ReLU.
    """
    torch.manual_seed(0)
    mean_C, std_C = learn.features_NC.mean(0), learn.features_NC.std(0)
    std_C = std_C + _QUIET * std_C.mean()
    num_outputs = learn.logits_NK.shape[1] if classifier is None else classifier[0].shape[1]
    sizes = [learn.features_NC.shape[1], *([rank] if rank else []), num_outputs]
    modules = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    end = [torch.nn.ReLU(), fixed_classifier(*classifier)] if classifier else []
    network = torch.nn.Sequential(*modules, *end)
    for module in modules:
        torch.nn.init.normal_(module.weight, std=0.3 / math.sqrt(module.in_features))
        torch.nn.init.zeros_(module.bias)
    if classifier:
        torch.nn.init.constant_(modules[-1].bias, 0.5)
    x, x_held = (
        torch.from_numpy((s.features_NC - mean_C) / std_C).float() for s in (learn, held_out)
    )
    p, p_held = (torch.from_numpy(softmax(s.logits_NK)).float() for s in (learn, held_out))
    steps = epochs * (len(x) // _BATCH)
    optimiser = torch.optim.AdamW(
        [q for module in modules for q in module.parameters()], lr=4e-3, weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best = math.inf
    kept: list[torch.Tensor] = []
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), _BATCH)[: len(x) // _BATCH]:
            optimiser.zero_grad()
            loss = -(p[rows] * network(x[rows]).log_softmax(1)).sum(1).mean()
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            held = float(-(p_held * network(x_held).log_softmax(1)).sum(1).mean())
        if held < best:
            best, kept = held, [q.detach().clone() for m in modules for q in m.parameters()]
    found = [
        (w.double().numpy(), b.double().numpy()) for w, b in zip(kept[::2], kept[1::2], strict=True)
    ]
    first_w, first_b = found[0]
    first_w = first_w / std_C
    found[0] = first_w, first_b - first_w @ mean_C
    return found


def fixed_classifier(w_KC: Float64Array, bias_K: Float64Array) -> torch.nn.Linear:
    """Return a linear layer that is not trained."""
    layer = torch.nn.Linear(w_KC.shape[1], w_KC.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w_KC))
        layer.bias.copy_(torch.from_numpy(bias_K))
    return layer.requires_grad_(False)


def round_head(
    matrices: Sequence[Matrix],
    learn: Sample,
    lambda_: float,
    classifier: Classes | None = None,
) -> Head:
    """Round a head's matrices, one after another: least divergence + λ bits.

    Each matrix sees the inputs that the rounded ones before it give. Biases take up the mean error.
    """
    x_NP: Float64Array = learn.features_NC.astype(np.float64)
    exact_NP = x_NP
    rounded: list[CompressedLayer] = []
    fisher_KK = output_fisher(softmax(learn.logits_NK))
    for i, (w_OP, bias_O) in enumerate(matrices):
        outputs_OO = fisher_KK
        if classifier is not None:
            outputs_OO = classifier[0].T @ outputs_OO @ classifier[0]
        for later_w, _ in reversed(matrices[i + 1 :]):
            outputs_OO = later_w.T @ outputs_OO @ later_w
        # Of the mean input no error is left: the bias takes it up.
        covariance_PP = np.atleast_2d(np.cov(x_NP.T, bias=True))
        layer = round_matrix(f"head{i}", w_OP, covariance_PP, outputs_OO, lambda_)
        wanted_NO = exact_NP @ w_OP.T + bias_O
        levels_OP = layer.weights.dequantize()[:, :, 0, 0].astype(np.float64)
        found_NO = x_NP @ levels_OP.T
        step = _BIAS_STEP if i + 1 == len(matrices) else float(found_NO.std()) / 64
        bias = round_biases((wanted_NO - found_NO).mean(axis=0), step)
        rounded.append(CompressedLayer(name=layer.name, weights=layer.weights, bias_O=bias))
        x_NP, exact_NP = found_NO + bias, wanted_NO
    return Head(matrices=tuple(rounded), classifier=classifier)


def output_fisher(p_NK: Float64Array) -> Float64Array:
    """Return the mean Fisher matrix of logits, off-diagonal entries shrunk, (K, K)."""
    between_KK = -_OFF_DIAGONAL * (p_NK.T @ p_NK) / len(p_NK)
    diagonal_K = (p_NK * (1 - p_NK)).mean(axis=0)
    np.fill_diagonal(between_KK, np.maximum(diagonal_K, 1e-3 * diagonal_K.mean()))
    return between_KK


def round_matrix(
    name: str,
    w_OP: Float64Array,
    inputs_PP: Float64Array,
    outputs_OO: Float64Array,
    lambda_: float,
) -> CompressedLayer:
    """Round one matrix on the trellis, with one scale for all outputs: scales cost bytes."""
    cost = ErrorCost(inputs=InputCost(curvature_PP=inputs_PP), outputs_OO=outputs_OO)
    log_curvature = np.log(cost.output_curvature_O).mean() + mean_log_curvature(inputs_PP)
    scale = SCALE_FACTOR * math.sqrt(12 * lambda_ / math.log(2) / math.exp(log_curvature))
    scale = max(scale, float(np.abs(w_OP).max()) / 115)
    scales_O = round_scales(np.full(len(w_OP), scale))
    codes_OP = np.sign(w_OP) * np.floor(np.abs(w_OP) / scale / 2 + 1 - DEAD_ZONE)
    codes_OP = codes_OP.clip(-MAX_CODE, MAX_CODE).astype(np.int64)
    for _ in range(_ROUNDS):
        costs = BitCosts.count([codes_OP[:, :, None]])
        codes_OP, _ = round_layer(
            w_OP, cost, scales_O.astype(np.float64), costs, activity_classes(codes_OP[:, :, None]),
            lambda_=lambda_, width=_WIDTH,
        )  # fmt: skip
    levels = [codes.tolist() for codes in codes_OP]
    for row in levels:
        to_levels(row)
    levels_OIHW = np.array(levels, np.int8)[:, :, None, None]
    weights = LevelWeights(levels_OIHW=levels_OIHW, scales_O=scales_O, trellis=True)
    return CompressedLayer(name=name, weights=weights, bias_O=np.zeros(len(w_OP), np.float32))
