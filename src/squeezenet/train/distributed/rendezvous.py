"""Where the ranks of one start meet, untroubled by earlier starts."""

from __future__ import annotations

import secrets
import time

from torch.distributed.distributed_c10d import PrefixStore, Store

_POLL_SECONDS = 0.02


def fresh_store(store: Store, rank: int, num_ranks: int, timeout: float) -> Store:
    """Return a part of a key-value store to which only the ranks of this start write.

    torchrun keeps its store when it starts ranks again, with the addresses of ranks that are dead
    (PyTorch 2.13, issue 135712). A rank that reads such an address before it is replaced is
    refused, or waits in gloo for five times its time limit. Nothing that torchrun tells a rank is
    new in each start and the same on all machines. So the ranks agree on a name for theirs:

    Each rank writes down a random word. Rank 0 publishes the words of all that it finds, and does
    so again whenever one changes. A rank that finds its own among them knows that rank 0's is of
    this start. It joins under rank 0's word, and when all others have joined, rank 0 goes on too.

    ``timeout`` is in seconds.

    Raises:
        TimeoutError: a rank did not come; the message says which.
    """
    word = secrets.token_hex(16)
    store.set(f"word/{rank}", word)
    deadline = time.monotonic() + timeout
    if rank == 0:
        name, published = word, ""
        others = range(1, num_ranks)
        while absent := [i for i in others if not store.check([f"{name}/joined/{i}"])]:
            words = " ".join([word, *(_read(store, f"word/{i}") or "none" for i in others)])
            if words != published:
                store.set("words", words)
                published = words
            _wait(deadline, f"no word from rank {', '.join(map(str, absent))}")
    else:
        while (found := _read(store, "words").split())[rank : rank + 1] != [word]:
            _wait(deadline, "no word from rank 0")
        name = found[0]
        store.set(f"{name}/joined/{rank}", "yes")
    return PrefixStore(name, store)


def _read(store: Store, key: str) -> str:
    """Return the value of a key; "" if nobody has set it."""
    return str(store.get(key), "ascii") if store.check([key]) else ""


def _wait(deadline: float, reason: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(reason)
    time.sleep(_POLL_SECONDS)
