"""A comm hook of DistributedDataParallel: gradients averaged in 8 bits, with error feedback.

Each rank sends a part of its gradients to the rank that averages it, and gets the mean of every
part: as many messages as a float32 all-reduce, a quarter of the bytes. Blocks of values have a
scale of their own (block-wise quantisation, arXiv 2110.02861). What rounding leaves out, on the way
to the mean and of the mean itself, is added at the next step (DoubleSqueeze, arXiv 1905.05957).

Legend: N ranks, P bytes of a packed part; a part is one Nth of a bucket.
"""

# DDP checks the annotations of a hook, so they must be types and not text.
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

BLOCK = 256
"""Values per scale: scales are 1.6% of the bytes."""
_MAX_LEVEL = 127
_SCALE_BYTES = 4
_FIRST_STEP = 2
"""The first steps are averaged whole: DDP arranges its buckets anew after the first."""


@dataclass(kw_only=True, eq=False)
class Int8State:
    """What rounding has left out so far, per bucket; each rank has its own."""

    steps: int = 0
    left_out: dict[int, torch.Tensor] = field(default_factory=dict)
    left_out_of_mean: dict[int, torch.Tensor] = field(default_factory=dict)


def int8_hook(state: Int8State, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Replace the gradients of a bucket by their mean over all ranks, the same on each."""
    buffer, index = bucket.buffer(), bucket.index()
    is_whole = state.steps < _FIRST_STEP
    state.steps += bucket.is_last()
    num_ranks = dist.get_world_size()
    if is_whole:
        future = dist.all_reduce(buffer.div_(num_ranks), async_op=True).get_future()
        return future.then(lambda done: done.value()[0])
    padded_size = -(-len(buffer) // (num_ranks * BLOCK)) * num_ranks * BLOCK
    values = torch.nn.functional.pad(buffer, (0, padded_size - len(buffer)))
    if index in state.left_out:
        values += state.left_out[index]
    sent_NP = pack(values).view(num_ranks, -1)
    state.left_out[index] = values - unpack(sent_NP)
    received_NP = torch.empty_like(sent_NP)

    def average(_: torch.futures.Future[object]) -> torch.Tensor:
        mean = unpack(received_NP).view(num_ranks, -1).mean(0)
        if index in state.left_out_of_mean:
            mean += state.left_out_of_mean[index]
        packed_P = pack(mean).view(-1)
        state.left_out_of_mean[index] = mean - unpack(packed_P.view(1, -1))
        dist.all_gather(list(received_NP), packed_P)
        return buffer.copy_(unpack(received_NP)[: len(buffer)])

    work = dist.all_to_all_single(received_NP, sent_NP, async_op=True)
    return work.get_future().then(average)


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
