"""Gradients in 8 bits: what a block's rounding leaves out is bounded by its own scale."""

from __future__ import annotations

import torch

from squeezenet.train.distributed.int8_hook import BLOCK, pack, unpack


def test_each_block_has_its_own_scale() -> None:
    sizes = torch.tensor([1e-30, 1e-3, 0.0, 1e30]).repeat_interleave(BLOCK)
    values = torch.randn(4 * BLOCK, generator=torch.Generator().manual_seed(0)) * sizes
    packed = pack(values)
    assert packed.numel() == 4 * (BLOCK + 4)
    error = (unpack(packed) - values).view(4, BLOCK).abs().amax(1)
    largest = values.view(4, BLOCK).abs().amax(1)
    assert bool((error <= largest / 127 * 0.501).all())


def test_a_value_that_is_not_finite_stays_so() -> None:
    """So that the loss of the next step says that training has diverged."""
    for bad in (float("nan"), float("inf")):
        values = torch.ones(2 * BLOCK)
        values[3] = bad
        found = unpack(pack(values)).view(2, BLOCK)
        assert not bool(torch.isfinite(found[0]).any())
        assert bool((found[1] == 1).all())
