"""Ranks meet in a store that an earlier start of them has left full."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import HashStore, Store, TCPStore

from squeezenet.train.distributed.rendezvous import fresh_store


@pytest.fixture
def store() -> Store:
    return TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=20))


def meet(store: Store, ranks: list[int], num_ranks: int, timeout: float = 20.0) -> list[object]:
    """Let ranks meet, which come in random order; return what each got."""
    found: list[object] = [None] * len(ranks)

    def come(place: int) -> None:
        time.sleep(random.uniform(0, 0.1))
        client = TCPStore("localhost", store.port, is_master=False) if timeout > 1 else store
        try:
            found[place] = fresh_store(client, ranks[place], num_ranks, timeout)
        except TimeoutError as error:
            found[place] = error

    threads = [threading.Thread(target=come, args=(place,)) for place in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_starts_share_nothing(store: Store) -> None:
    """Also if their number changes."""
    for start, num_ranks in enumerate((3, 4, 2, 1, 3)):
        found = meet(store, list(range(num_ranks)), num_ranks)
        assert not any(each.check(["address"]) for each in found)
        found[0].set("address", f"of start {start}")
        assert [each.get("address") for each in found] == [b"of start %d" % start] * num_ranks


def test_ranks_that_do_not_come(store: Store) -> None:
    found = meet(store, [1, 2], 3, timeout=0.3)
    assert [str(each) for each in found] == ["no word from rank 0"] * 2
    (first,) = meet(store, [0], 3, timeout=0.3)
    assert str(first) == "no word from rank 1, 2"
    first, second = meet(store, [0, 2], 3, timeout=0.5)
    assert str(first) == "no word from rank 1" and isinstance(second, Store)


def test_a_rank_that_is_started_again(store: Store) -> None:
    """Killed after it has written its word: the others wait for its successor."""
    store.set("word/1", "of a rank that was killed")
    found: list[Store] = []
    waiting = threading.Thread(target=lambda: found.append(fresh_store(store, 0, 2, 20.0)))
    waiting.start()
    time.sleep(0.2)
    assert not found
    client = TCPStore("localhost", store.port, is_master=False)
    late = fresh_store(client, 1, 2, 20.0)
    waiting.join()
    late.set("key", "value")
    assert found[0].get("key") == b"value"


def test_a_rank_alone_waits_for_nobody() -> None:
    assert isinstance(fresh_store(HashStore(), 0, 1, 0.0), Store)
