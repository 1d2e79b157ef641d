"""PyTorch's PowerSGD hook (arXiv 1905.13727), one bucket after the other.

PyTorch's hook sends from callbacks, and waits in them. With gloo the messages of two buckets could
leave in another order on each rank, or all of its threads wait for each other: training then stops.
"""

# DDP checks the annotations of a hook, so they must be types and not text.
import torch
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook


def bucketwise_powersgd_hook(
    state: powerSGD_hook.PowerSGDState, bucket: GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """Replace the gradients of a bucket by their low-rank mean; return when that is done."""
    future = powerSGD_hook.powerSGD_hook(state, bucket)
    future.wait()
    return future
