"""Several sets of images as one."""

from __future__ import annotations

import itertools
import pickle

import numpy as np

from squeezenet.data.digits import load_digits
from squeezenet.images.joined import JoinedImages, joined, plain_sets

PARTS = tuple(load_digits()[part] for part in ("train", "val", "test"))
JOINED = joined(PARTS)


def test_one_set_stays_as_it_is() -> None:
    assert joined(PARTS[:1]) is PARTS[0]


def test_images_follow_one_another() -> None:
    assert len(JOINED) == sum(map(len, PARTS))
    first = len(PARTS[0])
    np.testing.assert_array_equal(JOINED.pixels(first), PARTS[1].pixels(0))
    assert JOINED.name(first) == PARTS[1].name(0)
    assert not JOINED.labels.any()


def test_subsets_keep_their_order_and_may_repeat() -> None:
    last = len(JOINED) - 1
    chosen = JOINED.subset([last, 0, 0, 3]).subset([2, 0, 3])
    for i, index in enumerate((0, last, 3)):
        np.testing.assert_array_equal(chosen.pixels(i), JOINED.pixels(index))
    assert chosen.subset([0, 1], np.array([4, 5])).labels.tolist() == [4, 5]
    sizes = [len(part) for part in plain_sets([chosen, PARTS[0]])]
    assert sizes == [2, 0, 1, len(PARTS[0])]


def test_orders_have_every_image_once_and_mix_the_parts() -> None:
    for order in (
        JOINED.shuffled(np.random.default_rng(1)),
        JOINED.epoch_order(np.random.default_rng(1)),
    ):
        assert sorted(order.tolist()) == list(range(len(JOINED)))
        # The first hundred are of all parts, in proportion.
        share = (order[:100] < len(PARTS[0])).mean()
        assert 0.5 < share < 0.9
    again = JOINED.shuffled(np.random.default_rng(1))
    np.testing.assert_array_equal(again, order)


def test_a_few_are_of_each_part() -> None:
    few = list(JOINED.few(20))
    starts = np.cumsum([0, *map(len, PARTS)])
    assert all(
        any(start <= index < stop for index in few) for start, stop in itertools.pairwise(starts)
    )
    assert len(few) < 60


def test_worker_processes_can_have_it() -> None:
    assert isinstance(JOINED, JoinedImages)
    again = pickle.loads(pickle.dumps(JOINED.subset([5, 1700])))
    np.testing.assert_array_equal(again.pixels(1), JOINED.pixels(1700))
