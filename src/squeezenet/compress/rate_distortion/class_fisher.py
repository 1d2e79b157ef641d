"""The Fisher matrix of the weights of each class: what errors in the last layer cost, by class.

The classes of one layer have little in common: what an error in the weights of "tench" costs is
decided by images that may show a tench. With p the predicted probability of a class and x the
mean input of its last layer (where its ReLU lets it through, if it has one),

    F_k = E[p_k (1 - p_k) x x^T].

``curvature`` has their mean. Few images speak for a class, so ``layer_search`` mixes both. As the
output has hundreds of classes, each keeps the ``max_rank`` images that weigh most. That takes
no gradients. GuidedQuant (arXiv 2505.07004) has such matrices for groups of outputs.
Legend: N images, K classes, R images of a class, P inputs, L positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from squeezenet.arch.graph import Conv, Graph
from squeezenet.codec.numerics import Float32Array
from squeezenet.compress.rate_distortion.curvature import input_patches
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks

MAX_INPUTS = 1024
"""Of a last layer with such matrices: one takes the time of its inputs' third power."""
MAX_VALUES, MAX_RANK = 1 << 25, 1024
"""Numbers that all classes may keep, and images that one may."""
MIN_SHARE = 1e-3
"""Smallest p (1 - p) that counts."""


def max_rank(conv: Conv) -> int:
    """Return how many images each output of a last layer keeps; 0 for none at all."""
    size = conv.num_weights // conv.out_channels
    if conv.groups > 1 or size > MAX_INPUTS:
        return 0
    return max(1, min(MAX_RANK, MAX_VALUES // conv.num_weights))


def measure_class_fisher(
    model: LoadedModel,
    graph: Graph,
    batches: EvalBatches,
    *,
    progress: Progress | None = None,
    check: Callable[[], None] = lambda: None,
    ranks: Ranks = ONE_RANK,
) -> Float32Array:
    """Run images forward; return roots (K, R, P): F_k is the sum of root root^T over R.

    ``check`` is called after every batch and may raise. ``batches`` are this rank's; all ranks get
    what one process would get, but for rounding.
    """
    conv = graph.convs[-1]
    kept = _KeptImages(conv)
    module = model.module.eval()
    device = next(module.parameters()).device
    handle = module.get_submodule(conv.key).register_forward_hook(kept.hook)

    @torch.no_grad()
    def run() -> int:
        num_images = 0
        with (progress or SilentProgress()).task("classes", total=len(batches), unit="img") as task:
            for batch in batches:
                x = torch.from_numpy(normalise(batch.pixels_NHWC, model.record.preprocessing))
                logits_NK = module(x.to(device, memory_format=torch.channels_last))
                kept.add(logits_NK.float().softmax(dim=1).cpu())
                num_images += len(x)
                task.advance(len(x))
                check()
        return num_images

    try:
        num_images = ranks.together(run)
    finally:
        handle.remove()
    (num_images,) = map(int, ranks.sum([num_images]))
    kept.merge(ranks.gather((kept.share_KR, kept.roots_KRP)))
    roots_KRP: Float32Array = (kept.roots_KRP / max(1, num_images) ** 0.5).numpy()
    return roots_KRP


class _KeptImages:
    """What weighs most of each class so far."""

    def __init__(self, conv: Conv) -> None:
        self._conv = conv
        size, rank = conv.num_weights // conv.out_channels, max_rank(conv)
        self.share_KR = torch.zeros(conv.out_channels, rank)
        self.roots_KRP = torch.zeros(conv.out_channels, rank, size)

    def hook(
        self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor
    ) -> None:
        """Keep the last layer's inputs, and where each output is above 0."""
        self._patches_NPL = input_patches(inputs[0].detach().float(), self._conv).cpu()
        out_NKL = out.detach().flatten(2)
        active_NKL = out_NKL > 0 if self._conv.relu else torch.ones_like(out_NKL, dtype=torch.bool)
        self._active_NKL = active_NKL.cpu()

    def add(self, probability_NK: torch.Tensor) -> None:
        """Count the images that were run last."""
        share_NK = probability_NK * (1 - probability_NK)
        for patches_PL, active_KL, share_K in zip(
            self._patches_NPL, self._active_NKL, share_NK, strict=True
        ):
            least_K, place_K = self.share_KR.min(dim=1)
            classes = torch.nonzero(share_K > least_K.clamp_min(MIN_SHARE))[:, 0]
            mean_input_CP = active_KL[classes].float() @ patches_PL.T / patches_PL.shape[1]
            places = place_K[classes]
            self.share_KR[classes, places] = share_K[classes]
            self.roots_KRP[classes, places] = share_K[classes, None].sqrt() * mean_input_CP

    def merge(self, found: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Keep what weighs most of what all ranks kept."""
        if len(found) == 1:
            return
        share_KM = torch.cat([share_KR for share_KR, _ in found], dim=1)
        roots_KMP = torch.cat([roots_KRP for _, roots_KRP in found], dim=1)
        self.share_KR, order_KR = share_KM.topk(self.share_KR.shape[1], dim=1)
        self.roots_KRP = roots_KMP.gather(
            1, order_KR[:, :, None].expand(-1, -1, roots_KMP.shape[2])
        )
