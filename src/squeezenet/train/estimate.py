"""How long a training will take, measured on its first steps."""

from __future__ import annotations

_MEASURED_STEPS = 20
"""Steps before an estimate is made; the first is left out, since it allocates memory."""
_MIN_SECONDS = 60.0
"""Shorter trainings need no estimate."""


class TimeEstimate:
    """Measures steps and says once how long the rest will take.

    The first ``coarse_steps`` of the run are on images at ``coarse_scale`` times their side, at
    coarse_scale^2 of a full step's time.
    """

    def __init__(
        self, first_step: int, total_steps: int, coarse_steps: int, coarse_scale: float
    ) -> None:
        self._first_step = first_step
        self._total_steps = total_steps
        self._coarse_steps = coarse_steps
        self._coarse_cost = coarse_scale**2
        self._started = 0.0

    def after_step(self, step: int, now: float) -> str | None:
        """Take the time after ``step`` steps; return "about 12 minutes" when it is known.

        ``now`` is in seconds. Returns None before that, after that, and if it is under a minute.
        """
        num_steps = step - self._first_step
        if num_steps == 1:
            self._started = now
        if num_steps != _MEASURED_STEPS:
            return None
        measured = self._cost(self._first_step + 1, step)
        seconds = (now - self._started) / measured * self._cost(step, self._total_steps)
        return _about(seconds) if seconds >= _MIN_SECONDS else None

    def _cost(self, first: int, last: int) -> float:
        """Cost of steps first..last-1; a step at full size costs 1."""
        coarse = max(0, min(last, self._coarse_steps) - first)
        return coarse * self._coarse_cost + (last - first - coarse)


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {seconds / 3600:.1f} hours"
