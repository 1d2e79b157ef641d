"""The network as DistributedDataParallel, and what its gradients become on the wire."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from squeezenet.errors import UsageError
from squeezenet.train.distributed.int8_hook import Int8State, int8_hook
from squeezenet.train.distributed.powersgd_hook import bucketwise_powersgd_hook
from squeezenet.train.distributed.ranks import Ranks

CommHook: TypeAlias = Literal["none", "fp16", "bf16", "int8", "powersgd"]

_FIRST_POWERSGD_STEP = 2
"""The first steps are averaged whole: DDP arranges its buckets anew after the first, and the hook
keeps what it left out of each bucket."""
_BUCKET_MB = 1.0
"""MiB of gradients per message. SqueezeNet v1.0 is 4.8 MiB: small buckets go out while the backward
pass still computes. Of a step at 100 Mbit/s, two hosts, the network took 21% with DDP's choice (1
MiB, then 25), 26% with one bucket, 5% with 4 MiB, nothing that could be measured with 1 or 0.5
(docs/experiments/distributed.md). A larger layer is a bucket by itself."""


@dataclass(frozen=True, kw_only=True)
class GradientOptions:
    """How gradients are averaged over ranks; nothing of it matters to one rank.

    ``comm_hook``: what shrinks gradients on the wire. "fp16" and "bf16" round them to 16 bits;
    "int8" rounds them to 8; "powersgd" sends a product of two thin matrices per layer, of rank
    ``powersgd_rank`` (arXiv 1905.13727). These two add what they left out to the next step's.
    ``bucket_mb``: MiB of gradients that are averaged in one message.
    ``sync_batch_norm``: batch normalisation over the images of all ranks, on CUDA GPUs.

    Raises:
        UsageError: a value is out of its range.
    """

    comm_hook: CommHook = "none"
    powersgd_rank: int = 2
    bucket_mb: float = _BUCKET_MB
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.powersgd_rank <= 64:
            raise UsageError(f"--powersgd-rank {self.powersgd_rank}, expected 1 to 64")


def with_synchronised_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with its batch normalisation over all ranks; names and weights stay.

    Raises:
        UsageError: PyTorch has it on CUDA GPUs alone.
    """
    if device.type != "cuda":
        raise UsageError(
            f"--sync-batch-norm: PyTorch synchronises batch normalisation on CUDA GPUs, not on "
            f"{device.type}; leave it out, or use a larger --micro-batch"
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def replicated(module: nn.Module, ranks: Ranks, options: GradientOptions) -> nn.Module:
    """Return the module as all ranks train it; rank 0's weights go to all.

    Batch normalisation's statistics stay each rank's own: ``average_statistics`` averages them.

    Raises:
        UsageError: the comm hook does not work with this backend.
        DistributedError: another rank is gone, or has another network.
    """
    if ranks.size == 1:
        return module
    device = next(module.parameters()).device
    # The statistics stay each rank's own. torch 2.13 has renamed the option.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options_of_ddp: dict[str, Any] = {name: False, "bucket_cap_mb": options.bucket_mb}
    ddp: DistributedDataParallel = ranks.call(
        lambda: DistributedDataParallel(
            module, device_ids=[device] if device.type == "cuda" else None, **options_of_ddp
        )
    )
    _register_hook(ddp, options)
    return ddp


def _register_hook(ddp: DistributedDataParallel, options: GradientOptions) -> None:
    state: Any = None
    if options.comm_hook == "fp16":
        ddp.register_comm_hook(state, default_hooks.fp16_compress_hook)
    elif options.comm_hook == "bf16":
        try:
            ddp.register_comm_hook(state, default_hooks.bf16_compress_hook)
        except (RuntimeError, TypeError, ValueError):  # it depends on the version of torch
            error = UsageError(
                f"--comm-hook bf16: PyTorch has it for NCCL on newer GPUs, not for the backend "
                f"{dist.get_backend()}; use --comm-hook fp16"
            )
            error.is_shared = True
            raise error from None
    elif options.comm_hook == "int8":
        ddp.register_comm_hook(Int8State(), int8_hook)
    elif options.comm_hook == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            process_group=None,
            matrix_approximation_rank=options.powersgd_rank,
            start_powerSGD_iter=_FIRST_POWERSGD_STEP,
        )
        ddp.register_comm_hook(state, bucketwise_powersgd_hook)


def without_synchronisation(network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a backward pass only accumulates this rank's gradients."""
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return contextlib.nullcontext()


def statistics_of(modules: list[nn.Module]) -> list[torch.Tensor]:
    """Return the means and variances that batch normalisation has of this rank's batches."""
    return [
        buffer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for buffer in layer.buffers()
        if buffer.is_floating_point()
    ]


def average_statistics(modules: list[nn.Module], ranks: Ranks) -> None:
    """Average batch normalisation's running statistics over all ranks.

    They are averages of each rank's own batches, with equal decay. So averaging them now and then
    gives what averaging them after every step would, but for rounding.
    """
    if ranks.size > 1:
        ranks.add(statistics_of(modules), 1 / ranks.size)
