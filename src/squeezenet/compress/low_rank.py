"""Low-rank fully connected layers: the baseline "SVD" of the SqueezeNet paper's table 2.

After Denton et al. (arXiv 1404.0736): a weight matrix W (outputs x inputs) of which many singular
values are small is nearly the product of two thin ones. Which values are kept is decided over all
layers together: those that bring the most of their layer's squared norm per weight that they cost.
Batch normalisation is folded into W for that, since it scales the filters, but stays in the network
that is retrained.

Legend: O outputs, P inputs (channels x positions), R rank, K singular values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from squeezenet.arch.counts import FLOAT_BYTES
from squeezenet.arch.graph import Conv, Graph, build_graph
from squeezenet.errors import UsageError
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.model.network import FullyConnected


class LowRank(nn.Module):
    """A fully connected layer as two: (N, C, H, W) -> (N, O, 1, 1)."""

    def __init__(self, conv: Conv, rank: int) -> None:
        super().__init__()
        self.inner = FullyConnected(conv.in_channels, rank, conv.kernel, bias=False)
        self.outer = FullyConnected(rank, conv.out_channels, 1, bias=conv.norm_key is None)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.outer(self.inner(x_NCHW)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factors:
    """A layer's folded weight with its left singular vectors, the largest value first.

    ``scale_O``: what batch normalisation multiplies each output by; 1 without it.
    """

    conv: Conv
    weight_OP: torch.Tensor
    scale_O: torch.Tensor
    squares_K: torch.Tensor
    left_OK: torch.Tensor

    @property
    def cost(self) -> int:
        """The weights of one more rank."""
        return sum(self.weight_OP.shape)

    def layer(self, rank: int, bias_O: torch.Tensor | None) -> LowRank:
        """Return the best product of this rank, the singular values split evenly."""
        made = LowRank(self.conv, rank)
        u_OR = self.left_OK[:, :rank]
        root_R = self.squares_K[:rank].clamp(min=torch.finfo(torch.float64).tiny).pow(0.25)
        v_RP = (u_OR.T @ self.weight_OP) / root_R[:, None]
        outer_OR = u_OR * root_R / self.scale_O[:, None]
        with torch.no_grad():
            made.outer.weight.copy_(outer_OR[:, :, None, None])
            made.inner.weight.copy_(v_RP.reshape(made.inner.weight.shape))
            if made.outer.bias is not None:
                assert bias_O is not None
                made.outer.bias.copy_(bias_O)
        return made


def with_low_rank(model: LoadedModel, max_bytes: int) -> nn.Module:
    """Return a copy of the module with fully connected layers of low rank, on the CPU.

    Its float32 weights and biases have at most ``max_bytes``, batch normalisation folded. Layers
    that would not become smaller stay whole.

    Raises:
        UsageError: see ``require_possible``.
    """
    graph = build_graph(model.record.spec)
    require_possible(graph, max_bytes)
    folded = fold_batch_norm(model)
    factors = [
        _factors(folded.module, conv, _scale_O(model.module, conv))
        for conv in fully_connected(graph)
    ]
    ranks = _ranks(graph, factors, max_bytes)
    module = copy_model(model).module.cpu()
    for each in factors:
        if each.conv.name in ranks:
            original = module.get_submodule(each.conv.key)
            assert isinstance(original, nn.Conv2d)
            module.set_submodule(each.conv.key, each.layer(ranks[each.conv.name], original.bias))
    return module


def require_possible(graph: Graph, max_bytes: int) -> None:
    """Refuse a size that no ranks can have.

    Raises:
        UsageError: the other layers alone are larger, or there is no fully connected layer.
    """
    name, layers = graph.spec.name, fully_connected(graph)
    if not layers:
        raise UsageError(f"{name}: has no fully connected layer to factorise")
    least = low_rank_bytes(graph, {conv.name: 1 for conv in layers})
    if least > max_bytes:
        raise UsageError(
            f"{name}: has {least:,} bytes with fully connected layers of rank 1, expected at most "
            f"{max_bytes:,}; its convolutions are too large for SVD"
        )


def from_low_rank_state(model: LoadedModel, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return the module whose state_dict this is; ``model`` is the one that was factorised.

    Raises:
        RuntimeError: the state is of another network.
    """
    module = copy_model(model).module.cpu()
    for conv in build_graph(model.record.spec).convs:
        inner = state.get(f"{conv.key}.inner.weight")
        if inner is not None:
            module.set_submodule(conv.key, LowRank(conv, len(inner)))
    module.load_state_dict(dict(state))
    return module


def ranks_of(module: nn.Module, graph: Graph) -> dict[str, int]:
    """Return the ranks of the layers that were factorised, by their names."""
    layers = {conv.name: module.get_submodule(conv.key) for conv in graph.convs}
    return {
        name: layer.inner.out_channels
        for name, layer in layers.items()
        if isinstance(layer, LowRank)
    }


def low_rank_bytes(graph: Graph, ranks: Mapping[str, int]) -> int:
    """Return the bytes of float32 weights and biases; ``ranks`` by the name of the layer."""
    numbers = 0
    for conv in graph.convs:
        inputs = conv.num_weights // conv.out_channels
        rank = ranks.get(conv.name)
        weights = conv.num_weights if rank is None else rank * (conv.out_channels + inputs)
        numbers += weights + conv.out_channels
    return FLOAT_BYTES * numbers


def fully_connected(graph: Graph) -> list[Conv]:
    """Return the layers whose kernel covers their whole input."""
    found = []
    for conv in graph.convs:
        source, target = graph.tensors[conv.source], graph.tensors[conv.target]
        covers = conv.kernel == (source.height, source.width)
        if covers and conv.groups == 1 and target.num_elements == conv.out_channels:
            found.append(conv)
    return found


def _scale_O(module: nn.Module, conv: Conv) -> torch.Tensor:
    """What batch normalisation multiplies each output by in inference."""
    if conv.norm_key is None:
        return torch.ones(conv.out_channels, dtype=torch.float64)
    norm = module.get_submodule(conv.norm_key)
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    scale_O = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    # An output that is multiplied by 0 may have any weights.
    return torch.where(scale_O == 0, torch.ones_like(scale_O), scale_O).cpu()


def _factors(module: nn.Module, conv: Conv, scale_O: torch.Tensor) -> _Factors:
    layer = module.get_submodule(conv.key)
    assert isinstance(layer, nn.Conv2d)
    weight_OP = layer.weight.detach().cpu().flatten(1).double()
    # The squares of the singular values are the eigenvalues of W W', which takes a fraction of the
    # time; the small ones, which lose digits, are those that go.
    squares_K, left_OK = torch.linalg.eigh(weight_OP @ weight_OP.T)
    return _Factors(
        conv=conv,
        weight_OP=weight_OP,
        scale_O=scale_O,
        squares_K=squares_K.flip(0).clamp(min=0),
        left_OK=left_OK.flip(1),
    )


def _ranks(graph: Graph, factors: Sequence[_Factors], max_bytes: int) -> dict[str, int]:
    """The ranks at which the network has ``max_bytes``, of the layers that become smaller."""
    # Each layer has its largest value at least; the others compete.
    least = low_rank_bytes(graph, {each.conv.name: 1 for each in factors})
    gain = torch.cat([f.squares_K[1:] / f.squares_K.sum() / f.cost for f in factors])
    cost = torch.cat([torch.full_like(f.squares_K[1:], f.cost) for f in factors])
    owner = torch.cat([torch.full_like(f.squares_K[1:], k) for k, f in enumerate(factors)])
    order = torch.argsort(gain, descending=True, stable=True)
    fits = torch.cumsum(cost[order], 0) <= (max_bytes - least) // FLOAT_BYTES
    counts = torch.bincount(owner[order][fits].long(), minlength=len(factors)).tolist()
    return {
        each.conv.name: 1 + more
        for each, more in zip(factors, counts, strict=True)
        if (1 + more) * each.cost < each.conv.num_weights
    }
