"""How this process was started: alone, or as one of several by torchrun. Standard library only.

torchrun, and every launcher that follows it, tells each process its place in environment variables.
Like ``errors``, every folder may import this module.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from squeezenet.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Launch:
    """This process's place in its job.

    ``rank`` counts the processes of all machines, ``local_rank`` those of this machine, both from
    0. ``num_ranks`` and ``num_local_ranks`` are the numbers of both.
    """

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_local_ranks: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes results and shows progress."""
        return self.rank == 0

    @property
    def speaks(self) -> bool:
        """Whether this process shows what all ranks have to say: the first one of a machine."""
        return self.local_rank == 0


def num_cores() -> int:
    """Return the number of cores that this process may use; of several ranks, its share of them."""
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on Linux
        cores = os.cpu_count() or 1
    return max(1, cores // this_launch().num_local_ranks)


def this_launch() -> Launch:
    """Read the place of this process from its environment.

    Raises:
        UsageError: the variables are no numbers or contradict each other.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return Launch()
    # Without the local ones, as by hand: each process has a machine of its own.
    values = [os.environ.get(name, default) for name, default in zip(names, "0101", strict=True)]
    if all(text.isdecimal() for text in values):
        rank, num_ranks, local_rank, num_local_ranks = map(int, values)
        if rank < num_ranks and local_rank < num_local_ranks <= num_ranks:
            return Launch(
                rank=rank,
                num_ranks=num_ranks,
                local_rank=local_rank,
                num_local_ranks=num_local_ranks,
            )
    shown = ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    raise UsageError(
        f"{shown} in the environment, expected ranks from 0 below the number of ranks; start the "
        "processes with torchrun, or unset RANK and WORLD_SIZE"
    )
