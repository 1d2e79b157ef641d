"""Initial weights of a new last layer, by logistic regression.

The gradients of a random head distort the pretrained features below it, and a suitable learning
rate depends on the scale of these features. Logistic regression on the features needs no learning
rate ("linear probing, then fine-tuning", arXiv 2202.10054).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.distributed.evaluation import batches_of_rank
from squeezenet.train.fit import FitOptions

_INVERSE_REGULARISATION = 20.0
"""For features of unit mean square norm. Measured: 1000 times as much costs two points of top-1
(docs/experiments/training.md)."""
_MAX_ITERATIONS = 500
"""L-BFGS iterations; scikit-learn warns where these are too few."""


def fit_head(model: LoadedModel, images: ImageSet, *, balance: bool, options: FitOptions) -> None:
    """Set the last layer to the logistic regression of the images' labels on its input.

    ``balance`` gives every class the same total weight. Images are preprocessed as in evaluation,
    without augmentation. Each rank computes the features of a part of them; rank 0's model gets
    the layer, which training sends to the others.

    Raises:
        DataError: none of the images can be read.
        ImageError: one cannot be read, and the options are strict.
    """
    ranks = options.ranks
    layer = model.module.get_submodule(build_graph(model.record.spec).convs[-1].key)
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    batches = batches_of_rank(
        images,
        model.record.preprocessing,
        workers=options.workers,
        bad=options.bad,
        ranks=ranks,
    )
    progress = options.progress or SilentProgress()
    found = ranks.together(lambda: _features(model, layer, batches, progress))
    parts = [part for each in ranks.gather(found) for part in each]
    features_NC, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    ranks.on_main(lambda: _fit(layer, features_NC, labels, balance=balance))


def _fit(
    layer: nn.Conv2d,
    features_NC: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    *,
    balance: bool,
) -> None:
    from sklearn.linear_model import LogisticRegression

    assert layer.bias is not None
    scale = max(float(np.sqrt(np.mean(np.sum(features_NC**2, axis=1)))), 1e-12)
    solver = LogisticRegression(
        C=_INVERSE_REGULARISATION,
        class_weight="balanced" if balance else None,
        max_iter=_MAX_ITERATIONS,
    )
    solver.fit(features_NC / scale, labels)
    weight_KC, bias_K = solver.coef_ / scale, solver.intercept_
    if len(solver.classes_) == 2:  # scikit-learn has one row: the second class against the first
        weight_KC = np.concatenate([-weight_KC, weight_KC]) / 2
        bias_K = np.array([-1, 1]) * bias_K / 2
    with torch.no_grad():
        for row, label in enumerate(solver.classes_):
            filter_CHW = layer.weight[label]
            filter_CHW.copy_(torch.from_numpy(weight_KC[row]).reshape(filter_CHW.shape))
            layer.bias[label] = float(bias_K[row])


def _features(
    model: LoadedModel, layer: nn.Conv2d, batches: EvalBatches, progress: Progress
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    """Return per batch what the logits are linear in, float64 (N, C * kernel), and the labels."""
    features, labels = [], []
    padding = int(layer.padding[0])

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x_NCHW = inputs[0]
        if layer.kernel_size != (1, 1):  # fully connected: the kernel covers the whole input
            features.append(x_NCHW.flatten(1).cpu().double().numpy())
            return
        # The average over all output positions; in the padding the input is 0.
        positions = (x_NCHW.shape[2] + 2 * padding) * (x_NCHW.shape[3] + 2 * padding)
        features.append((x_NCHW.cpu().double().sum(dim=(2, 3)) / positions).numpy())

    hook = layer.register_forward_pre_hook(keep)
    try:
        with progress.task("new head", total=len(batches), unit="img") as task:
            for batch in batches:
                model.logits(normalise(batch.pixels_NHWC, model.record.preprocessing))
                labels.append(batch.labels)
                task.advance(len(batch.labels))
    finally:
        hook.remove()
    return list(zip(features, labels, strict=True))
