"""The estimate of a training's time."""

from __future__ import annotations

import pytest

from squeezenet.train.estimate import TimeEstimate


def said(estimate: TimeEstimate, first: int, last: int, seconds_per_step: float) -> list[str]:
    """What is said after steps first + 1 to last, the first of which is slow."""
    now = 1000.0
    lines = []
    for step in range(first + 1, last + 1):
        now += 50.0 if step == first + 1 else seconds_per_step
        line = estimate.after_step(step, now)
        if line is not None:
            lines.append(f"{step}: {line}")
    return lines


@pytest.mark.parametrize(
    ("total", "seconds", "line"),
    [
        (1220, 0.5, "about 10 minutes"),  # 1,200 steps are left
        (140, 0.5, "about 1 minute"),
        (139, 0.5, None),  # under a minute
        (20 + 5999 * 2, 0.5, "about 1.7 hours"),
        (20 + 6000 * 2, 0.495, "about 99 minutes"),
        (20 + 7200, 1.5, "about 3.0 hours"),
    ],
)
def test_rest_of_a_run(total: int, seconds: float, line: str | None) -> None:
    lines = said(TimeEstimate(0, total, 0, 0.75), 0, min(total, 60), seconds)
    assert lines == ([] if line is None else [f"20: {line}"])


def test_a_resumed_run_measures_its_own_steps() -> None:
    assert said(TimeEstimate(500, 500 + 20 + 600, 0, 1.0), 500, 600, 0.2) == [
        "520: about 2 minutes"
    ]


def test_steps_on_small_images_cost_less() -> None:
    # A quarter of the cost until step 100: 80 at 0.25 s and 900 at 1 s are 920 s.
    assert said(TimeEstimate(0, 1000, 100, 0.5), 0, 40, 0.25) == ["20: about 15 minutes"]
    # Measured on both kinds: steps 1 to 9 at 0.25 and 10 to 19 at 1, of which none is left.
    estimate = TimeEstimate(0, 620, 10, 0.5)
    now, line = 0.0, None
    for step in range(1, 21):
        now += 0.25 if step <= 10 else 1.0
        line = estimate.after_step(step, now)
    assert line == "about 10 minutes"
    # All of the small ones are done already.
    assert said(TimeEstimate(200, 820, 100, 0.5), 200, 240, 1.0) == ["220: about 10 minutes"]
