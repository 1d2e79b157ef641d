"""What a trial is told, and what it answers, as the study's database keeps them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from squeezenet.arch.record import spec_from_plain
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.errors import SpecError, StudyError
from squeezenet.explore.sweeps import Variant


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """One training of a study: a network and a seed."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """The trial's name, and that of its run folder."""
        return f"{self.variant.name}-seed{self.seed}"

    def has_network_of(self, other: TrialPlan) -> bool:
        """Whether both train the same network with the same seed, whatever its name."""
        a, b = (dataclasses.replace(plan.variant.spec, name="same") for plan in (self, other))
        return a == b and self.seed == other.seed

    def to_plain(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @staticmethod
    def from_plain(data: Any) -> TrialPlan:
        """Return the plan of ``to_plain``.

        Raises:
            StudyError: it is none.
        """
        try:
            variant = data["variant"]
            spec = spec_from_plain(dict(variant["spec"]))
            assert isinstance(spec, SqueezeNetSpec)
            return TrialPlan(
                variant=Variant(
                    name=variant["name"], label=variant["label"], x=variant["x"], spec=spec
                ),
                seed=data["seed"],
            )
        except (LookupError, TypeError, SpecError):
            raise StudyError(
                "the study's database has a trial of another version of squeezenet; use that "
                "version, or choose another --out"
            ) from None


def plans(variants: list[Variant], seeds: int) -> list[TrialPlan]:
    """Return all trials of a sweep: every network once, then every network with the next seed."""
    return [TrialPlan(variant=variant, seed=seed) for seed in range(seeds) for variant in variants]
