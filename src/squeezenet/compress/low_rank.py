"""Low-rank fully connected layers: the baseline "SVD" of the SqueezeNet paper's table 2.

After Denton et al. (arXiv 1404.0736): a weight matrix W (outputs x inputs) of which many singular
values are small is nearly the product of two thin ones. Which values are kept is decided over all
layers together: those that bring the most of their layer's squared norm per weight that they cost.

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
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.model.network import FullyConnected


class LowRank(nn.Module):
    """A fully connected layer as two: (N, C, H, W) -> (N, O, 1, 1)."""

    def __init__(self, conv: Conv, rank: int) -> None:
        super().__init__()
        self.inner = FullyConnected(conv.in_channels, rank, conv.kernel, bias=False)
        self.outer = FullyConnected(rank, conv.out_channels, 1)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.outer(self.inner(x_NCHW)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factors:
    """A layer's weight with its left singular vectors, the largest value first."""

    conv: Conv
    weight_OP: torch.Tensor
    bias_O: torch.Tensor
    squares_K: torch.Tensor
    left_OK: torch.Tensor

    @property
    def cost(self) -> int:
        """The weights of one more rank."""
        return sum(self.weight_OP.shape)

    def module(self, rank: int) -> LowRank:
        """Return the best product of this rank, the singular values split evenly."""
        made = LowRank(self.conv, rank)
        u_OR = self.left_OK[:, :rank]
        root_R = self.squares_K[:rank].clamp(min=torch.finfo(torch.float64).tiny).pow(0.25)
        v_RP = (u_OR.T @ self.weight_OP) / root_R[:, None]
        with torch.no_grad():
            made.outer.weight.copy_((u_OR * root_R)[:, :, None, None])
            made.inner.weight.copy_(v_RP.reshape(made.inner.weight.shape))
            assert made.outer.bias is not None
            made.outer.bias.copy_(self.bias_O)
        return made


def with_low_rank(model: LoadedModel, max_bytes: int) -> nn.Module:
    """Return a copy of the module with fully connected layers of low rank, on the CPU.

    The model has no batch normalisation. The copy has at most ``max_bytes`` of float32 weights and
    biases; layers that would not become smaller stay whole.

    Raises:
        UsageError: the other layers alone are larger, or there is no fully connected layer.
    """
    graph = build_graph(model.record.spec)
    layers = fully_connected(graph)
    if not layers:
        raise UsageError(f"{model.record.spec.name}: has no fully connected layer to factorise")
    factors = [_factors(model.module, conv) for conv in layers]
    ranks = _ranks(graph, factors, max_bytes)
    if (smallest := low_rank_bytes(graph, ranks)) > max_bytes:
        raise UsageError(
            f"{model.record.spec.name}: has {smallest:,} bytes at the lowest ranks, expected at "
            f"most {max_bytes:,}"
        )
    module = copy_model(model).module.cpu()
    for each in factors:
        if each.conv.name in ranks:
            module.set_submodule(each.conv.key, each.module(ranks[each.conv.name]))
    return module


def from_low_rank_state(model: LoadedModel, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return the module whose state_dict this is; ``model`` is the one that was factorised."""
    module = copy_model(model).module.cpu()
    for conv in build_graph(model.record.spec).convs:
        inner = state.get(f"{conv.key}.inner.weight")
        if inner is not None:
            module.set_submodule(conv.key, LowRank(conv, len(inner)))
    module.load_state_dict(dict(state))
    return module


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


def _factors(module: nn.Module, conv: Conv) -> _Factors:
    layer = module.get_submodule(conv.key)
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    weight_OP = layer.weight.detach().cpu().flatten(1).double()
    # The squares of the singular values are the eigenvalues of W W', which takes a fraction of the
    # time; the small ones, which lose digits, are those that go.
    squares_K, left_OK = torch.linalg.eigh(weight_OP @ weight_OP.T)
    return _Factors(
        conv=conv,
        weight_OP=weight_OP,
        bias_O=layer.bias.detach().cpu(),
        squares_K=squares_K.flip(0).clamp(min=0),
        left_OK=left_OK.flip(1),
    )


def _ranks(graph: Graph, factors: Sequence[_Factors], max_bytes: int) -> dict[str, int]:
    """The ranks at which the network has ``max_bytes``, of the layers that become smaller."""
    whole: dict[str, int] = {each.conv.name: 0 for each in factors}
    budget = (max_bytes - low_rank_bytes(graph, whole)) // FLOAT_BYTES
    gain = torch.cat([f.squares_K / f.squares_K.sum() / f.cost for f in factors])
    cost = torch.cat([torch.full_like(f.squares_K, f.cost) for f in factors])
    owner = torch.cat([torch.full_like(f.squares_K, k) for k, f in enumerate(factors)])
    order = torch.argsort(gain, descending=True, stable=True)
    kept = owner[order][torch.cumsum(cost[order], 0) <= budget].long()
    counts = torch.bincount(kept, minlength=len(factors)).tolist()
    ranks = {f.conv.name: max(1, n) for f, n in zip(factors, counts, strict=True)}
    return {
        f.conv.name: ranks[f.conv.name]
        for f in factors
        if ranks[f.conv.name] * f.cost < f.conv.num_weights
    }
