"""Budgets of a search: what a network may cost a client."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from squeezenet.errors import UsageError
from squeezenet.explore.costs import Costs

_OPTIONS = {
    "file_bytes": "--max-file-bytes",
    "macs": "--max-macs",
    "arena_bytes": "--max-arena-bytes",
    "latency_ms": "--max-latency-ms",
}


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """The max costs of a network; None is no limit. Units are those of ``Costs``.

    Raises:
        UsageError: a limit is not above 0.
    """

    file_bytes: int | None = None
    macs: int | None = None
    arena_bytes: int | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits().items():
            if not limit > 0:
                raise UsageError(f"{_OPTIONS[name]} {limit:g}, expected above 0")

    def limits(self) -> dict[str, float]:
        """Return the limits that there are, by name."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: limit for name, limit in found.items() if limit is not None}

    def excess(self, costs: Costs, file_bytes: float) -> dict[str, float]:
        """Return by how much of itself each limit is exceeded; at most 0 where it is kept."""
        found: dict[str, float | None] = {
            "file_bytes": file_bytes,
            "macs": costs.macs,
            "arena_bytes": costs.arena_bytes,
            "latency_ms": costs.latency_ms,
        }
        excess: dict[str, float] = {}
        for name, limit in self.limits().items():
            value = found[name]
            assert value is not None
            excess[name] = value / limit - 1
        return excess

    def require_possible(self, smallest: Costs, file_bytes: float) -> None:
        """Refuse budgets that even the smallest network of the space exceeds.

        Raises:
            UsageError: says what the smallest needs.
        """
        needed = {
            "file_bytes": f"about {file_bytes:,.0f} bytes",
            "macs": f"{smallest.macs:,} multiply-accumulates",
            "arena_bytes": f"{smallest.arena_bytes:,} bytes of arena",
            "latency_ms": f"{smallest.latency_ms or 0:.3g} ms here",
        }
        for name, excess in self.excess(smallest, file_bytes).items():
            if excess > 0:
                raise UsageError(
                    f"{_OPTIONS[name]} {self.limits()[name]:,}: the smallest network of the "
                    f"search needs {needed[name]}"
                )
