"""The settings of Deep Compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from squeezenet.errors import SpecError

MIN_BITS, MAX_BITS = 2, 8
"""Bits per weight: a code is a byte at most."""


@dataclass(frozen=True, kw_only=True)
class DeepCompressionSettings:
    """How much to prune, how many values to share, how long to retrain.

    ``bits``: bits per weight, so at most 2^bits - 1 distinct non-zero values per layer;
    ``layer_bits``: that of some layers.
    ``density``: share of the weights to keep, spread by LAMP; ``densities``: that of some layers.
    With neither, a sensitivity scan lets each layer cost ``scan_budget`` points of accuracy.
    ``prune_epochs``, ``share_epochs``: of retraining after pruning and after sharing. 0 leaves it
    out; None is 10 and 4, or more for a small set, until there are 500 and 300 steps.
    ``learning_rate``: of the retraining. ``target_bytes``: lowers ``bits`` until the file fits.

    Raises:
        SpecError: a value out of its range.
    """

    bits: int = 6
    layer_bits: Mapping[str, int] = field(default_factory=dict)
    density: float | None = None
    densities: Mapping[str, float] = field(default_factory=dict)
    scan_budget: float = 0.5
    prune_epochs: int | None = None
    share_epochs: int | None = None
    learning_rate: float = 0.02
    target_bytes: int | None = None

    def __post_init__(self) -> None:
        for where, bits in (("Deep Compression", self.bits), *self.layer_bits.items()):
            if not MIN_BITS <= bits <= MAX_BITS:
                raise SpecError(
                    f"{where}: {bits} bits per weight, expected {MIN_BITS} to {MAX_BITS}"
                )
        for name in ("prune_epochs", "share_epochs"):
            epochs = getattr(self, name)
            if epochs is not None and epochs < 0:
                raise SpecError(f"Deep Compression: {name} is {epochs}, expected 0 or more")
        if not self.learning_rate > 0 or not self.scan_budget >= 0:
            raise SpecError(
                f"Deep Compression: learning rate {self.learning_rate}, scan budget "
                f"{self.scan_budget}; expected a rate above 0 and a budget of at least 0"
            )
