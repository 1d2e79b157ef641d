"""What a job of method ``rd`` is asked for, and how much work goes into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from squeezenet.compress.rate_distortion.trellis_rounding import Breadth
from squeezenet.errors import SpecError

Effort = Literal["low", "medium", "high"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """``breadth`` of rounding, ``passes`` of ``gains`` on ``pass_images`` each, then
    ``tuning_steps`` of training, or before it all ``retrain_steps`` where labels teach, whole
    epochs of them; the curvature is measured on ``curvature_images``, mirrored ones too where there
    are too few."""

    breadth: Breadth
    pass_images: int
    curvature_images: int = 2000
    passes: int = 1
    tuning_steps: int = 0
    retrain_steps: int = 0


EFFORTS: Mapping[Effort, Work] = {
    "low": Work(breadth=Breadth(paths=1, steps=9), pass_images=1000),
    "medium": Work(breadth=Breadth(paths=8, steps=17), pass_images=2000),
    "high": Work(
        breadth=Breadth(paths=16, steps=17),
        pass_images=4000,
        curvature_images=4000,
        tuning_steps=6000,
        retrain_steps=8000,
    ),
}
MOST_DIVERGENCE, LEAST_DIVERGENCE = 1.0, 1e-4


@dataclass(frozen=True, kw_only=True)
class RateDistortionSettings:
    """``divergence``: how many nats fine rounding would cost at the price of a bit that is taken,
    of which less than half comes true; with ``target_bytes`` or ``max_drop`` the price is searched
    for instead, ``target_bytes`` first."""

    divergence: float = 0.07
    effort: Effort = "medium"
    target_bytes: int | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if not LEAST_DIVERGENCE <= self.divergence <= MOST_DIVERGENCE:
            raise SpecError(
                f"rd: divergence {self.divergence}, expected {LEAST_DIVERGENCE} to "
                f"{MOST_DIVERGENCE} nats"
            )
        if self.effort not in EFFORTS:
            raise SpecError(f"rd: effort {self.effort!r}, expected one of {', '.join(EFFORTS)}")
