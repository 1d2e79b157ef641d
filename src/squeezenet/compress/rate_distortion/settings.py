"""Settings of method ``rd``, and how much work each effort stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from squeezenet.compress.rate_distortion.trellis_rounding import SearchWidth
from squeezenet.errors import SpecError

Effort = Literal["low", "medium", "high"]


@dataclass(frozen=True, kw_only=True)
class EffortPreset:
    """How much work a job does.

    ``width``: of the last rounding. ``curvature_images``: images for the curvature; mirrored ones
    count too where there are few. ``correction_passes``: passes of scale and bias correction, on
    ``correction_images`` each. ``training_steps``: steps of training the levels after them.
    ``retraining_steps``: where labels teach and images are many, steps of retraining a pruned
    network before all that, instead; whole epochs of them.
    """

    width: SearchWidth
    correction_images: int
    curvature_images: int = 2000
    correction_passes: int = 1
    training_steps: int = 0
    retraining_steps: int = 0


EFFORT_PRESETS: Mapping[Effort, EffortPreset] = {
    "low": EffortPreset(width=SearchWidth(survivors=1, scales=9), correction_images=1000),
    "medium": EffortPreset(width=SearchWidth(survivors=8, scales=17), correction_images=2000),
    "high": EffortPreset(
        width=SearchWidth(survivors=16, scales=17),
        correction_images=4000,
        curvature_images=4000,
        training_steps=6000,
        retraining_steps=8000,
    ),
}
"""Widths by distortion per second of rounding (docs/experiments): 8 survivors and 17 scales have a
tenth less distortion than 8 and one, in 12 times the time. A second correction pass brought 1%. At
1/30 of CIFAR-10's bytes, 12,000 training steps are no better than 6,000."""

DEFAULT_DIVERGENCE = 0.07
FEW_IMAGES, DIVERGENCE_OF_FEW = 500, 0.01
"""With fewer images to learn from, the default divergence is this. Few images measure the curvature
badly: on 144 photographs of 8 classes (v1.1, fine-tuned) 0.07 nats predicted were 0.37 nats on
held-out ones, with 81% of the predictions as before, and 0.01 nats were 0.017, with 94%. On 800 of
ImageNet's 0.07 are 0.03. Where the two meet was not measured."""
MIN_DIVERGENCE, MAX_DIVERGENCE = 1e-4, 1.0
"""Limits of ``divergence`` and of the search, in nats. Files were measured from 0.006 to 0.2."""


def default_divergence(num_images: int) -> float:
    """Return the divergence to aim at where nobody says, for so many images to learn from."""
    return DIVERGENCE_OF_FEW if num_images < FEW_IMAGES else DEFAULT_DIVERGENCE


@dataclass(frozen=True, kw_only=True)
class RateDistortionSettings:
    """What a file is asked to be.

    ``divergence``: target KL divergence predicted by the quadratic model, in nats. The measured KL
    is usually a third to a half of it. ``target_bytes`` or ``max_drop`` (points of top-1, or
    percent of predictions) search for it instead; ``target_bytes`` goes first.

    Raises:
        SpecError: a divergence out of range, or an unknown effort.
    """

    divergence: float = DEFAULT_DIVERGENCE
    effort: Effort = "medium"
    target_bytes: int | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if not MIN_DIVERGENCE <= self.divergence <= MAX_DIVERGENCE:
            raise SpecError(
                f"rd: divergence {self.divergence}, expected {MIN_DIVERGENCE} to "
                f"{MAX_DIVERGENCE} nats"
            )
        if self.effort not in EFFORT_PRESETS:
            raise SpecError(
                f"rd: effort {self.effort!r}, expected one of {', '.join(EFFORT_PRESETS)}"
            )
