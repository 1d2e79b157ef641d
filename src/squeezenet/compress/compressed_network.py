"""A network that computes its weights from what a file will hold, so that this can be trained."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from squeezenet.arch.graph import Graph
from squeezenet.codec.types import CompressedLayer
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.fit import Loss
from squeezenet.train.recipe import Recipe
from squeezenet.train.run import cross_entropy


class CompressedNetwork(nn.Module):
    """Runs ``network`` with weights that a subclass computes; biases train as well."""

    def __init__(
        self, network: nn.Module, graph: Graph, layers: tuple[CompressedLayer, ...]
    ) -> None:
        super().__init__()
        self._graph = graph
        self._network = [network]  # in a list: its own parameters must not be trained
        self._keys = [conv.key.replace(".", "/") for conv in graph.convs]
        self.biases = nn.ParameterDict()
        for key, layer in zip(self._keys, layers, strict=True):
            self.biases[key] = nn.Parameter(torch.from_numpy(layer.bias_O.copy()))

    def weight(self, key: str) -> torch.Tensor:
        """The current weight of a layer, OIHW."""
        raise NotImplementedError

    def bias(self, key: str) -> torch.Tensor:
        """The current bias of a layer."""
        bias: torch.Tensor = self.biases[key]
        return bias

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        state = {}
        for conv, key in zip(self._graph.convs, self._keys, strict=True):
            state[f"{conv.key}.weight"] = self.weight(key)
            state[f"{conv.key}.bias"] = self.bias(key)
        # Batch normalisation is folded, and dropout would be noise upon what the original answers.
        network = self._network[0].to(x_NCHW.device).eval()
        result: torch.Tensor = functional_call(network, state, (x_NCHW,))
        return result


def distillation(teacher: LoadedModel, temperature: float) -> Loss:
    """Loss without labels: KL divergence from the original's answers (arXiv 1503.02531), softened
    by a ``temperature`` above 1."""
    network = teacher.module.eval()

    def loss(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = network.to(x_NCHW.device)(x_NCHW).float() / temperature
        answer = functional.log_softmax(logits_NK.float() / temperature, dim=1)
        kl = functional.kl_div(
            answer, functional.log_softmax(wanted, dim=1), reduction="batchmean", log_target=True
        )
        return kl * temperature**2

    return loss


def teaching(
    teacher: LoadedModel, recipe: Recipe, temperature: float, *, labelled: ImageSet | None
) -> Loss:
    """What the original answers, which tells more than labels do, and labels where there are any
    (arXiv 1503.02531): the sum of both."""
    distil = distillation(teacher, temperature)
    if labelled is None:
        return distil
    by_labels = cross_entropy(recipe, labelled)

    def both(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return distil(logits_NK, x_NCHW, labels) + by_labels(logits_NK, x_NCHW, labels)

    return both


def copy_of(model: LoadedModel) -> LoadedModel:
    """The model with weights of its own."""
    return LoadedModel(record=model.record, module=copy.deepcopy(model.module))
