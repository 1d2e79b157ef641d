"""Work on shards in several processes, a shard at a time, with the results in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from squeezenet.errors import DataError
from squeezenet.images.batches import default_workers, init_worker_process

J = TypeVar("J")
R = TypeVar("R")


def in_processes(
    function: Callable[[J], R], jobs: Iterable[J], num_jobs: int, workers: int | None
) -> Iterator[R]:
    """Yield ``function`` of each job, in their order; jobs are drawn a few ahead.

    ``workers`` is the number of processes: fewer than two work in this one, None chooses.

    Raises:
        DataError: a process was killed; and what ``function`` raises.
    """
    num_workers = min(default_workers() if workers is None else workers, num_jobs)
    if num_workers < 2:
        yield from map(function, jobs)
        return
    # "spawn": a forked child of a process with BLAS or torch threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, init_worker_process) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for job in jobs:
                pending.append(pool.submit(function, job))
                if len(pending) > 2 * num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process was killed, perhaps for want of memory; the same command goes "
                "on, with fewer --workers it needs less"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
