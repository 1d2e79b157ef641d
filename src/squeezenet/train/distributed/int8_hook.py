"""A comm hook of DistributedDataParallel: gradients averaged in 8 bits, with error feedback.

Each rank sends a part of its gradients to the rank that averages it, and gets the mean of every
part: as many messages as a float32 all-reduce, a quarter of the bytes. Blocks of values have a
scale of their own (block-wise quantisation, arXiv 2110.02861). What rounding leaves out, on the way
to the mean and of the mean itself, is added at the next step (DoubleSqueeze, arXiv 1905.05957).

Legend: N ranks, P bytes of a packed part; a part is one Nth of a bucket.
"""

# DDP checks the annotations of a hook, so they must be types and not text.
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn import functional

BLOCK = 256
"""Values per scale: scales are 1.6% of the bytes."""
_MAX_LEVEL = 127
_SCALE_BYTES = 4
_FIRST_STEP = 2
"""The first steps are averaged whole: DDP arranges its buckets anew after the first."""


@dataclass(kw_only=True, eq=False)
class _Transfer:
    """A bucket on its way: ``mean`` is done when it holds the mean."""

    index: int
    buffer: torch.Tensor
    received_NP: torch.Tensor
    work: Any
    mean: torch.futures.Future[torch.Tensor]


@dataclass(kw_only=True, eq=False)
class Int8State:
    """What rounding has left out so far, per bucket; each rank has its own."""

    steps: int = 0
    left_out: dict[int, torch.Tensor] = field(default_factory=dict)
    left_out_of_mean: dict[int, torch.Tensor] = field(default_factory=dict)
    transfers: list[_Transfer] = field(default_factory=list)


def int8_hook(state: Int8State, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Replace the gradients of a bucket by their mean over all ranks, the same on each.

    Parts are sent during the backward pass. The means follow after it, bucket by bucket: messages
    that callbacks sent would leave in another order on each rank.
    """
    buffer = bucket.buffer()
    is_whole = state.steps < _FIRST_STEP
    state.steps += bucket.is_last()
    if is_whole:
        return default_hooks.allreduce_hook(None, bucket)  # type: ignore[arg-type]
    num_ranks = dist.get_world_size()
    padded_size = -(-len(buffer) // (num_ranks * BLOCK)) * num_ranks * BLOCK
    values = functional.pad(buffer, (0, padded_size - len(buffer)))
    index = bucket.index()
    if index in state.left_out:
        values += state.left_out[index]
    sent_NP = pack(values).view(num_ranks, -1)
    state.left_out[index] = values - unpack(sent_NP)
    received_NP = torch.empty_like(sent_NP)
    work = dist.all_to_all_single(received_NP, sent_NP, async_op=True)
    mean: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    state.transfers.append(
        _Transfer(index=index, buffer=buffer, received_NP=received_NP, work=work, mean=mean)
    )
    if bucket.is_last():
        _finish(state)
    return mean


def _finish(state: Int8State) -> None:
    """Average the parts that have come, send the means, and wait for all."""
    transfers, state.transfers = state.transfers, []
    for transfer in transfers:
        transfer.work.wait()
        received_NP, index = transfer.received_NP, transfer.index
        mean = unpack(received_NP).view(len(received_NP), -1).mean(0)
        if index in state.left_out_of_mean:
            mean += state.left_out_of_mean[index]
        packed_P = pack(mean).view(-1)
        state.left_out_of_mean[index] = mean - unpack(packed_P)
        transfer.work = dist.all_gather(list(received_NP), packed_P, async_op=True)
    for transfer in transfers:
        transfer.work.wait()
        buffer = transfer.buffer
        buffer.copy_(unpack(transfer.received_NP)[: len(buffer)])
        transfer.mean.set_result(buffer)


def pack(values: torch.Tensor) -> torch.Tensor:
    """Round whole blocks of float32 values to 8 bits; each row is a block's levels and scale."""
    blocks = values.view(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True) / _MAX_LEVEL
    levels = (blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)).round_()
    return torch.cat([levels.to(torch.int8), scales.view(torch.int8)], dim=1)


def unpack(packed_NP: torch.Tensor) -> torch.Tensor:
    """Return the values of packed parts."""
    rows = packed_NP.view(-1, BLOCK + _SCALE_BYTES)
    scales = rows[:, BLOCK:].contiguous().view(torch.float32)
    return (rows[:, :BLOCK] * scales).view(-1)
