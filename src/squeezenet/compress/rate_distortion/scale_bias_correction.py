"""Correct the scales and biases of all layers at once, by a damped Gauss-Newton step.

Rounding with λ above 0 leaves errors that are alike in all outputs: weights shrink. What is alike
adds up through the layers, and the KL divergence of the whole is then several times the sum over
single outputs. Scales and biases are few enough to solve for together. With slope g of the KL
divergence, gradients J of drawn scores (one row per image, see ``curvature``), and damping d:

    change = -(J^T J / N + d * diag(u^2))^-1 g,

by ln(scale) and bias of every output. As in Levenberg and Marquardt's method, u^2 is the curvature
of each unknown; half of it is its layer's mean.
Legend: N images, O outputs of a layer, T all scales and all biases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from squeezenet.arch.graph import Graph
from squeezenet.codec.numerics import round_scales
from squeezenet.compress.rate_distortion.arrays import Float64Array
from squeezenet.compress.rate_distortion.curvature import (
    TINY,
    draw_score,
    skip_draws,
    without_weight_gradients,
)
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
)
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks

DAMPINGS = (3.0, 10.0, 30.0, 100.0, 300.0)
"""Candidate Levenberg-Marquardt damping factors; the best on held-out images is used. Which is best
depends on the number of images: 3 on 4,000 of CIFAR-10, 10 to 30 on 1,000, 100 to 300 on 640 of
ImageNet, where 3 raises the divergence."""
MEAN_CURVATURE_MIX = 0.5
"""Share of the layer's mean in the curvature that damping goes by. An output that hardly any image
needs has next to none of its own, and would be moved at random: a scale of the ImageNet network was
once halved, which made a sixth of the divergence (docs/experiments)."""
MIN_CURVATURE = 1e-12
"""Smallest curvature, as a share of the largest. It keeps divisors above 0."""
MAX_SCALE_CHANGE = 0.5
"""Largest relative change of a scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaleBiasCorrection:
    """What some images say of all scales and biases.

    ``rows_NT``: gradients of drawn scores by the unknowns, one row per image. ``slope_T``: slope of
    the KL divergence, whose mean is ``divergence``, in nats.
    """

    graph: Graph
    rows_NT: Float64Array
    slope_T: Float64Array
    divergence: float

    def corrected(self, network: QuantizedNetwork, damping: float) -> QuantizedNetwork:
        """Return the network that was measured with corrected scales and biases."""
        unit_T = damping_units(self.rows_NT, self.graph)
        change_T = gauss_newton_step(self.rows_NT, self.slope_T, unit_T, damping)
        return _apply(network, self.graph, change_T)


def measure_correction(
    student: LoadedModel,
    teacher: LoadedModel,
    graph: Graph,
    batches: EvalBatches,
    *,
    seed: int,
    progress: Progress,
    title: str,
    check: Callable[[], None],
    ranks: Ranks = ONE_RANK,
) -> ScaleBiasCorrection | None:
    """Run images forward and back through the rounded ``student``; None without a readable image.

    ``check`` is called after every batch and may raise. ``batches`` are this rank's; all ranks
    get the correction by the images of all.
    """
    module = student.module.eval()
    original = teacher.module.eval()
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    skip_draws(generator, batches, student.record.spec.num_classes)
    recorder = _GradientRecorder(module, graph)

    def run() -> tuple[list[Float64Array], Float64Array, float]:
        total = 0.0
        slope_T: Float64Array = np.zeros(recorder.num_unknowns)
        rows_NT = []
        with progress.task(title, total=len(batches), unit="img") as task:
            for batch in batches:
                x_NCHW = torch.from_numpy(
                    normalise(batch.pixels_NHWC, student.record.preprocessing)
                )
                x_NCHW = x_NCHW.to(device, memory_format=torch.channels_last)
                with torch.no_grad():
                    wanted_NK = functional.log_softmax(original(x_NCHW).float(), dim=1)
                logits_NK = module(x_NCHW.requires_grad_())
                divergence = functional.kl_div(
                    functional.log_softmax(logits_NK.float(), dim=1),
                    wanted_NK,
                    reduction="sum",
                    log_target=True,
                )
                divergence.backward(retain_graph=True)  # type: ignore[no-untyped-call]
                slope_T += recorder.rows().sum(axis=0)
                logits_NK.backward(draw_score(logits_NK.detach(), generator))
                rows_NT.append(recorder.rows())
                total += float(divergence.detach())
                task.advance(len(x_NCHW))
                check()
        return rows_NT, slope_T, total

    try:
        with without_weight_gradients(module):
            parts = ranks.gather(ranks.together(run))
    finally:
        recorder.close()
    rows_NT = [rows for part_rows, _, _ in parts for rows in part_rows]
    if not rows_NT:
        return None
    rows = np.concatenate(rows_NT)
    return ScaleBiasCorrection(
        graph=graph,
        rows_NT=rows,
        slope_T=sum((slope_T for _, slope_T, _ in parts), np.zeros(rows.shape[1])) / len(rows),
        divergence=sum(total for _, _, total in parts) / len(rows),
    )


class _GradientRecorder:
    """Records the gradients by ln(scale) and bias of every output, image by image."""

    def __init__(self, module: nn.Module, graph: Graph) -> None:
        self._rows: dict[str, torch.Tensor] = {}
        self._names = [conv.name for conv in graph.convs]
        self.num_unknowns = 2 * sum(conv.out_channels for conv in graph.convs)
        self._handles = [
            # Before other hooks: outputs as the convolution gives them, not yet rounded.
            module.get_submodule(conv.key).register_forward_hook(
                self._hook(conv.name), prepend=True
            )
            for conv in graph.convs
        ]

    def _hook(self, name: str) -> Callable[..., None]:
        def record(layer: nn.Conv2d, inputs: object, out_NOHW: torch.Tensor) -> None:
            assert layer.bias is not None
            bias_O, kept_NOHW = layer.bias.detach(), out_NOHW.detach()

            def back(gradient_NOHW: torch.Tensor) -> None:
                by_bias_NO = gradient_NOHW.sum(dim=(2, 3))
                # The derivative of an output by the ln of its scale is the output less its bias.
                by_scale_NO = (gradient_NOHW * kept_NOHW).sum(dim=(2, 3)) - bias_O * by_bias_NO
                self._rows[name] = torch.cat([by_scale_NO, by_bias_NO], dim=1).cpu().double()

            out_NOHW.register_hook(back)  # type: ignore[no-untyped-call]

        return record

    def rows(self) -> Float64Array:
        """The last backward pass, (N, T)."""
        rows_NT: Float64Array = torch.cat([self._rows[n] for n in self._names], dim=1).numpy()
        return rows_NT

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def damping_units(rows_NT: Float64Array, graph: Graph) -> Float64Array:
    """Return u, the root of the curvature that damping goes by, (T,)."""
    square_T = np.square(rows_NT).mean(axis=0)
    start = 0
    for conv in graph.convs:
        for _ in ("scales", "biases"):
            part = slice(start, start + conv.out_channels)
            mean = square_T[part].mean()
            square_T[part] += MEAN_CURVATURE_MIX * (mean - square_T[part])
            start = part.stop
    unit_T: Float64Array = np.sqrt(
        np.maximum(square_T, MIN_CURVATURE * square_T.max(initial=0.0) + TINY)
    )
    return unit_T


def gauss_newton_step(
    rows_NT: Float64Array, slope_T: Float64Array, unit_T: Float64Array, damping: float
) -> Float64Array:
    """Return the x that minimises g x + x^T (J^T J / N + damping * diag(u^2)) x / 2, (T,).

    J^T J has rank N at most, so N equations are solved instead of T (Woodbury's identity).
    """
    num = len(rows_NT)
    rows_NT, slope_T = rows_NT / unit_T, slope_T / unit_T
    inner_NN = rows_NT @ rows_NT.T / num + damping * np.eye(num)
    along_T = rows_NT.T @ np.linalg.solve(inner_NN, rows_NT @ slope_T) / num
    step_T: Float64Array = -(slope_T - along_T) / damping / unit_T
    return step_T


def _apply(network: QuantizedNetwork, graph: Graph, change_T: Float64Array) -> QuantizedNetwork:
    levels: dict[str, QuantizedLayer] = {}
    start = 0
    for conv in graph.convs:
        middle, stop = start + conv.out_channels, start + 2 * conv.out_channels
        layer = network.levels[conv.name]
        change_O = np.clip(change_T[start:middle], -MAX_SCALE_CHANGE, MAX_SCALE_CHANGE)
        levels[conv.name] = dataclasses.replace(
            layer,
            scales_O=round_scales(layer.scales_O * (1 + change_O)),
            bias_O=layer.bias_O + change_T[middle:stop],
        )
        start = stop
    return dataclasses.replace(network, levels=levels)
