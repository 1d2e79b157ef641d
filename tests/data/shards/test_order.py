"""The order of an epoch for sets of any shape: no image lost or repeated. No shard is read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezenet.data.shards.images import WINDOW_SHARDS, ShardImages, open_shard_images
from squeezenet.data.shards.index import SAMPLE, Shard, ShardIndex
from squeezenet.data.shards.storage import LocalShards


def shards_of(sizes: list[int]) -> ShardImages:
    """Return a set with so many images in its shards, which do not exist."""
    index = ShardIndex(
        class_names=("a", "b"),
        shards=tuple(
            Shard(name=f"{k}.tar", num_samples=size, num_bytes=0, sha256="")
            for k, size in enumerate(sizes)
        ),
        samples_N=np.zeros(sum(sizes), SAMPLE),
    )
    return open_shard_images(index, LocalShards(Path("none")))


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any)


@settings(deadline=None)
@given(SIZES, st.integers(0, 99))
def test_each_image_once(sizes: list[int], seed: int) -> None:
    images = shards_of(sizes)
    order = images.epoch_order(np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(images)))
    # No more than a window of shards at a time.
    visited = images.index.shard_of(order).tolist()
    met = list(dict.fromkeys(visited))
    last = {shard: max(i for i, k in enumerate(visited) if k == shard) for shard in met}
    for i, shard in enumerate(met):
        started = visited.index(shard)
        still_open = [k for k in met[:i] if last[k] > started]
        assert len(still_open) < WINDOW_SHARDS


@settings(deadline=None)
@given(SIZES, st.data())
def test_each_image_of_a_subset_once(sizes: list[int], data: st.DataObject) -> None:
    images = shards_of(sizes)
    rows = data.draw(st.lists(st.integers(0, len(images) - 1), unique=True))
    part = images.subset(rows)
    order = part.epoch_order(np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert sorted(part.rows[order].tolist()) == sorted(rows)


def test_an_image_is_a_few_bytes_of_memory() -> None:
    images = shards_of([10_000] * 20)
    assert images.index.samples_N.nbytes == 20 * len(images)
    part = images.subset(range(0, 200_000, 2))
    for each in (images, part):
        assert len(pickle.dumps(each)) < 40 * 200_000  # what a worker process gets
