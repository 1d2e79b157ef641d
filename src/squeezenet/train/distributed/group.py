"""Joins the processes that torchrun started, and parts them again."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from squeezenet.errors import DistributedError, UsageError
from squeezenet.launch import Launch, this_launch
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks, connection_reason

DEFAULT_TIMEOUT = 600.0
"""Seconds that a rank waits for the others in a step. Longer than any step here, shorter than the
30 minutes that PyTorch waits by default."""
_FOREVER = timedelta(days=30)
"""A rank that has died closes its connection, so waiting ends then; and torchrun ends its ranks."""


@contextlib.contextmanager
def joined_ranks(device: torch.device, timeout: float = DEFAULT_TIMEOUT) -> Iterator[Ranks]:
    """Yield the ranks of the job that this process is one of; ``ONE_RANK`` if it is alone.

    gloo carries what is on CPUs, NCCL what is on CUDA GPUs. A group that the process has already
    is used as it is. ``timeout`` is in seconds.

    Raises:
        DistributedError: the other ranks cannot be reached within the time limit.
        UsageError: ranks cannot compute on this device, or the environment is wrong.
    """
    launch = this_launch()
    if launch.num_ranks == 1:
        yield ONE_RANK
        return
    if device.type not in ("cpu", "cuda"):
        raise UsageError(
            f"--device {device.type}: several ranks compute on CPUs or CUDA GPUs; try --device cpu"
        )
    if not dist.is_available():
        raise UsageError("this build of torch has no torch.distributed; start one process")
    is_ours = not dist.is_initialized()
    try:
        with _errors_of_joining(launch, timeout):
            if is_ours:
                _join(launch, device, timeout)
            patient = dist.new_group(backend="gloo", timeout=_FOREVER)
        with warnings.catch_warnings():
            # Weights of one input channel have the same layout under two names.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield Ranks(launch=launch, patient_group=patient)
    finally:
        if is_ours and dist.is_initialized():
            dist.destroy_process_group()


def _join(launch: Launch, device: torch.device, timeout: float) -> None:
    # Not in every build of torch, see above.
    from torch.distributed.rendezvous import rendezvous

    from squeezenet.train.distributed.rendezvous import fresh_store

    limit = timedelta(seconds=timeout)
    store, rank, num_ranks = next(rendezvous("env://", timeout=limit))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=fresh_store(store, rank, num_ranks, timeout),
        rank=rank,
        world_size=num_ranks,
        timeout=limit,
    )


@contextlib.contextmanager
def _errors_of_joining(launch: Launch, timeout: float) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TimeoutError) as error:  # DistError is a RuntimeError
        address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise DistributedError(
            f"could not join the other {_ranks(launch.num_ranks - 1)} at {address} within "
            f"{timeout:g} s ({connection_reason(error)}); check that every machine was started, "
            "reaches that address, and has the right network in GLOO_SOCKET_IFNAME"
        ) from None


def _ranks(number: int) -> str:
    return "rank" if number == 1 else f"{number} ranks"
