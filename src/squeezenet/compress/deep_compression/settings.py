"""The settings of Deep Compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from squeezenet.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class DeepCompressionSettings:
    """``density`` of all layers, or ``densities`` of some; with neither, a sensitivity scan
    allows each layer to cost ``scan_budget`` points of accuracy before retraining.

    ``bits`` a code (at most 2^bits - 1 shared values a layer). ``target_bytes`` lowers ``bits``
    until the file fits. Epochs of 0 leave a retraining out; None means 10 and 4, and more for a
    small set, until there are 500 and 300 steps.
    """

    bits: int = 6
    density: float | None = None
    densities: Mapping[str, float] = field(default_factory=dict)
    scan_budget: float = 0.5
    prune_epochs: int | None = None
    share_epochs: int | None = None
    learning_rate: float = 0.02
    target_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise SpecError(f"Deep Compression: {self.bits} bits a code, expected 2 to 8")
        for name in ("prune_epochs", "share_epochs"):
            epochs = getattr(self, name)
            if epochs is not None and epochs < 0:
                raise SpecError(f"Deep Compression: {name} is {epochs}, expected 0 or more")
        if not self.learning_rate > 0 or not self.scan_budget >= 0:
            raise SpecError(
                f"Deep Compression: learning rate {self.learning_rate}, scan budget "
                f"{self.scan_budget}; expected a rate above 0 and a budget of at least 0"
            )
