"""The device that trains, and its precision."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from typing import Literal

import torch

from squeezenet.errors import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt's numbers, from glibc's malloc.h
_KEPT_BYTES = 1 << 30
"""Above the largest activation of any preset at the default batch sizes."""

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A torch device, and whether forward passes run under bfloat16 autocast."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context for a forward pass."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def choose_hardware(
    device: str = "auto", precision: Precision = "auto", local_rank: int = 0
) -> Hardware:
    """Choose CUDA, else Apple's GPU, else the CPU; bfloat16 where the hardware multiplies in it.

    Of a machine's CUDA GPUs, rank ``local_rank`` of the machine takes the one of that number.

    Raises:
        UsageError: the requested device is not available.
    """
    if device == "auto":
        if torch.cuda.is_available():
            device = "cuda"
        else:
            device = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UsageError(
            f"--device {device}: not usable here ({reason}); try --device cpu"
        ) from None
    if chosen.type == "cuda":
        if chosen.index is None:
            chosen = _gpu_of(local_rank)
        torch.cuda.set_device(chosen)
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if chosen.type == "cuda"
        else chosen.type == "cpu" and _cpu_multiplies_bfloat16()
    )
    return Hardware(
        device=chosen, bfloat16=precision == "bfloat16" or (precision == "auto" and native)
    )


def _gpu_of(local_rank: int) -> torch.device:
    num_gpus = torch.cuda.device_count()
    if local_rank >= num_gpus:
        raise UsageError(
            f"--device cuda: {num_gpus} GPUs here for {local_rank + 1} processes or more; start "
            f"one per GPU (torchrun --nproc-per-node {num_gpus})"
        )
    return torch.device("cuda", local_rank)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel.

    Large activations are freed at every step. Mapping their pages again costs a third of a step's
    time on a CPU (85 instead of 130 images/s, docs/experiments). Without glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _cpu_multiplies_bfloat16() -> bool:
    # AVX-512 BF16 or AMX; other CPUs emulate bfloat16, more slowly than they compute float32.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
