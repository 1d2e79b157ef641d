"""Scales and biases of all layers, moved together so that the answers come back.

Rounding to levels at a price leaves errors that are alike in all outputs (weights shrink), and
what is alike adds up through the layers: the divergence is then several times what single outputs
foretell. Scales and biases are few enough to solve for at once, by Gauss and Newton: their joint
curvature and the slope of the divergence come from the outputs and the gradients by them.
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
from squeezenet.compress.rate_distortion.curvature import draw_score
from squeezenet.compress.rate_distortion.level_search import LayerLevels, NetworkLevels
from squeezenet.compress.rate_distortion.trellis_rounding import Float64Array
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress

DAMPINGS = (3.0, 10.0, 30.0, 100.0, 300.0)
"""Worth trying: each, times its curvature, is added to that of every scale and bias, so that only
what many of them have in common, and many images show, is moved in full. Which is right depends on
how many images there are: 3 on 4,000 of CIFAR-10's, 10 to 30 on 1,000, 100 to 300 on 640 of
ImageNet's, where 3 does more harm than good."""
_COMMON_CURVATURE = 0.5
"""Share of a layer's mean in that: an output that hardly any image needs has next to none of its
own, and chance would move it at will (a scale of the ImageNet network was once halved)."""
_LARGEST_CHANGE = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Gains:
    """What some images tell of all scales and biases: gradients by them for drawn answers, an
    image a row, and the slope of the divergence; ``divergence`` is its mean in nats."""

    graph: Graph
    rows_NT: Float64Array
    slope_T: Float64Array
    divergence: float

    def moved(self, found: NetworkLevels, damping: float) -> NetworkLevels:
        """Return the levels that were measured with better scales and biases."""
        unit_T = _units(self.rows_NT, self.graph)
        return _moved(found, self.graph, _solve(self.rows_NT, self.slope_T, unit_T, damping))


def measure_gains(
    student: LoadedModel,
    teacher: LoadedModel,
    graph: Graph,
    batches: EvalBatches,
    *,
    seed: int,
    progress: Progress,
    title: str,
    check: Callable[[], None],
) -> Gains | None:
    """Run images forward and back through the rounded network; None without a readable image.

    ``check`` is called after every batch and may raise.
    """
    module = student.module.eval()
    original = teacher.module.eval()
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    tape = _Tape(module, graph)
    total = 0.0
    slope_T: Float64Array = np.zeros(tape.length)
    rows_NT = []
    try:
        with progress.task(title, total=len(batches), unit="img") as task:
            for batch in batches:
                x_NCHW = torch.from_numpy(
                    normalise(batch.pixels_NHWC, student.record.preprocessing)
                )
                x_NCHW = x_NCHW.to(device, memory_format=torch.channels_last)
                with torch.no_grad():
                    wanted = functional.log_softmax(original(x_NCHW).float(), dim=1)
                logits_NK = module(x_NCHW.requires_grad_())
                divergence = functional.kl_div(
                    functional.log_softmax(logits_NK.float(), dim=1),
                    wanted,
                    reduction="sum",
                    log_target=True,
                )
                divergence.backward(retain_graph=True)  # type: ignore[no-untyped-call]
                slope_T += tape.rows().sum(axis=0)
                logits_NK.backward(draw_score(logits_NK.detach(), generator))
                rows_NT.append(tape.rows())
                total += float(divergence.detach())
                task.advance(len(x_NCHW))
                check()
    finally:
        tape.close()
    if not rows_NT:
        return None
    rows = np.concatenate(rows_NT)
    return Gains(
        graph=graph, rows_NT=rows, slope_T=slope_T / len(rows), divergence=total / len(rows)
    )


class _Tape:
    """The gradients by ln(scale) and bias of every output, image by image."""

    def __init__(self, module: nn.Module, graph: Graph) -> None:
        self._rows: dict[str, torch.Tensor] = {}
        self._names = [conv.name for conv in graph.convs]
        self.length = 2 * sum(conv.out_channels for conv in graph.convs)
        self._handles = [
            # In front of other hooks: outputs as the convolution gives them.
            module.get_submodule(conv.key).register_forward_hook(
                self._hook(conv.name), prepend=True
            )
            for conv in graph.convs
        ]

    def _hook(self, name: str) -> Callable[..., None]:
        def note(layer: nn.Conv2d, inputs: object, out_NOHW: torch.Tensor) -> None:
            assert layer.bias is not None
            weighted_NOHW = out_NOHW.detach() - layer.bias.detach()[None, :, None, None]

            def back(gradient_NOHW: torch.Tensor) -> None:
                by_scale_NO = (gradient_NOHW * weighted_NOHW).sum(dim=(2, 3))
                rows = torch.cat([by_scale_NO, gradient_NOHW.sum(dim=(2, 3))], dim=1)
                self._rows[name] = rows.detach().cpu().double()

            out_NOHW.register_hook(back)  # type: ignore[no-untyped-call]

        return note

    def rows(self) -> Float64Array:
        """The last backward pass, (N, T)."""
        rows_NT: Float64Array = torch.cat([self._rows[n] for n in self._names], dim=1).numpy()
        return rows_NT

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def _units(rows_NT: Float64Array, graph: Graph) -> Float64Array:
    """The root of the curvature that damping goes by."""
    square_T = np.square(rows_NT).mean(axis=0)
    start = 0
    for conv in graph.convs:
        for _ in ("scales", "biases"):
            part = slice(start, start + conv.out_channels)
            mean = square_T[part].mean()
            square_T[part] += _COMMON_CURVATURE * (mean - square_T[part])
            start = part.stop
    unit_T: Float64Array = np.sqrt(np.maximum(square_T, 1e-12 * square_T.max(initial=0.0) + 1e-300))
    return unit_T


def _solve(
    rows_NT: Float64Array, slope_T: Float64Array, unit_T: Float64Array, damping: float
) -> Float64Array:
    """Minimise slope . move + move^T (curvature + damping unit^2) move / 2; the curvature is the
    mean of the rows' squares, and of rank N, so N equations are solved for T unknowns."""
    num = len(rows_NT)
    rows_NT, slope_T = rows_NT / unit_T, slope_T / unit_T
    inner_NN = rows_NT @ rows_NT.T / num + damping * np.eye(num)
    along_T = rows_NT.T @ np.linalg.solve(inner_NN, rows_NT @ slope_T) / num
    move_T: Float64Array = -(slope_T - along_T) / damping / unit_T
    return move_T


def _moved(found: NetworkLevels, graph: Graph, move_T: Float64Array) -> NetworkLevels:
    result: dict[str, LayerLevels] = {}
    start = 0
    for conv in graph.convs:
        middle, stop = start + conv.out_channels, start + 2 * conv.out_channels
        layer = found[conv.name]
        change_O = np.clip(move_T[start:middle], -_LARGEST_CHANGE, _LARGEST_CHANGE)
        result[conv.name] = dataclasses.replace(
            layer,
            scales_O=round_scales(layer.scales_O * (1 + change_O)),
            bias_O=layer.bias_O + move_T[middle:stop],
        )
        start = stop
    return result
