"""Which device trains, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from typing import Literal

import torch

from squeezenet.errors import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A torch device, and whether forward passes run under bfloat16 autocast."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context for a forward pass."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def choose_hardware(device: str = "auto", precision: Precision = "auto") -> Hardware:
    """Pick CUDA, then Apple's GPU, then the CPU; bfloat16 where the hardware multiplies in it.

    Raises:
        UsageError: the device asked for is not there.
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
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if chosen.type == "cuda"
        else chosen.type == "cpu" and _cpu_multiplies_bfloat16()
    )
    return Hardware(
        device=chosen, bfloat16=precision == "bfloat16" or (precision == "auto" and native)
    )


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back to the kernel.

    Activations are large and are freed every step; fetching their pages anew costs a third of the
    time of a step on a CPU. Elsewhere than on glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _cpu_multiplies_bfloat16() -> bool:
    # AVX-512 BF16 or AMX; elsewhere bfloat16 is emulated and slower than float32.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
