"""Checks of options that several commands and functions share.

Messages name an option as a command line has it: ``--val-fraction`` is the argument
``val_fraction`` in Python.
"""

from __future__ import annotations

import os

from squeezenet.errors import UsageError
from squeezenet.launch import Launch, num_cores

MAX_SEED = 2**32 - 1
"""NumPy's legacy seeds, which scikit-learn takes, have 32 bits."""
MAX_WORKERS = 256
MAX_THREADS = 1024
"""More processes or threads than any machine that was thought of; a typing error, not a wish."""
MAX_RANK_TIMEOUT = 86_400
"""Seconds in a day."""


def require_seed(seed: int) -> None:
    """Refuse a seed that random number generators refuse.

    Raises:
        UsageError: the seed is negative or over 32 bits.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"--seed {seed}, expected 0 to {MAX_SEED}")


def require_checkpoint_every(seconds: float) -> None:
    """Refuse a time between checkpoints that is negative or not a number.

    Raises:
        UsageError: it is.
    """
    if not seconds >= 0:
        raise UsageError(f"--checkpoint-every {seconds}, expected 0 or more seconds")


def require_workers(workers: int | None) -> None:
    """Refuse a number of processes that makes no sense.

    Raises:
        UsageError: it is below 0 or above ``MAX_WORKERS``.
    """
    if workers is not None and not 0 <= workers <= MAX_WORKERS:
        raise UsageError(f"--workers {workers}, expected 0 to {MAX_WORKERS}")


def require_keep(keep: int) -> None:
    """Refuse to keep no checkpoint.

    Raises:
        UsageError: ``keep`` is below 1.
    """
    if keep < 1:
        raise UsageError(f"--keep {keep}, expected 1 or more checkpoints")


def require_rank_timeout(seconds: float) -> None:
    """Refuse a time limit that is too short to start in, or not a number.

    Raises:
        UsageError: it is.
    """
    if not 1 <= seconds <= MAX_RANK_TIMEOUT:
        raise UsageError(f"--rank-timeout {seconds}, expected 1 to {MAX_RANK_TIMEOUT} seconds")


def share_of_cores(launch: Launch) -> int | None:
    """Return the threads for each rank of several on a machine; None leaves torch's default.

    torchrun asks for one thread each (OMP_NUM_THREADS=1), however many cores there are. Another
    number is the user's own.
    """
    if launch.num_local_ranks == 1 or os.environ.get("OMP_NUM_THREADS", "1") != "1":
        return None
    return num_cores()


def set_threads(threads: int | None) -> None:
    """Let torch compute with this many threads, in the whole process; None changes nothing.

    Raises:
        UsageError: it is below 1 or above ``MAX_THREADS``.
    """
    if threads is None:
        return
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"--threads {threads}, expected 1 to {MAX_THREADS}")
    import torch

    torch.set_num_threads(threads)
