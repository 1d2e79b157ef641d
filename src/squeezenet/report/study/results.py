"""What a study's report shows: its trials, and their means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from squeezenet.arch.spec import SqueezeNetSpec

PAGE = "study.html"
"""The page of a study's report."""
TrialState = Literal["done", "stopped", "failed", "running", "waiting"]
"""``stopped``: a search saw early that others are better."""


@dataclass(frozen=True, kw_only=True)
class TrialMeasures:
    """What was measured of a trained network.

    ``top1`` and ``top5`` are percent of ``images`` images. ``macs`` are per image, ``weight_bytes``
    of float32. ``seconds`` is the time of the training.

    In a search also: ``file_bytes``, the estimated size of the compressed file; ``arena_bytes`` and
    ``latency_ms`` of the client (see ``explore.costs``); ``curve``, the top-1 on the validation
    images after each epoch; and ``stopped``, whether the training was given up before its end.
    """

    top1: float
    top5: float
    images: int
    parameters: int
    macs: int
    weight_bytes: int
    epochs: float
    seconds: float
    file_bytes: int | None = None
    arena_bytes: int | None = None
    latency_ms: float | None = None
    curve: tuple[float, ...] = ()
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial of a study: a network (``variant``) with a seed.

    ``x`` is the value on the study's axis, None if that is no number. ``measures`` is None until
    the trial is done. ``error`` says why it failed. ``spec`` is the network as it was asked for,
    ``choices`` are the dimensions of a search that it came from, each with its value.
    """

    name: str
    variant: str
    label: str
    x: float | None
    seed: int
    state: TrialState
    measures: TrialMeasures | None = None
    error: str = ""
    spec: SqueezeNetSpec
    choices: tuple[tuple[str, float | str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """What the paper has for a network, on ImageNet; percent, and megabytes of float32."""

    top1: float | None = None
    top5: float | None = None
    megabytes: float | None = None

    def __str__(self) -> str:
        accuracy = "/".join("-" if v is None else f"{v:.1f}" for v in (self.top1, self.top5))
        return accuracy if self.megabytes is None else f"{accuracy}, {self.megabytes:g} MB"


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A network of a search that was compressed.

    ``file_bytes`` were estimated as ``estimated_bytes``. ``top1`` is that of the file in integers,
    ``float_top1`` that of the trained network, both on the images held out from training.
    """

    name: str
    estimated_bytes: int
    file_bytes: int
    top1: float
    float_top1: float


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """What a search found: names of trials on the ``front``, the finalists, and the ``best``.

    The front are the networks that no other beats in accuracy, bytes and multiply-accumulates
    alike. ``best`` is the most accurate within the budgets, None if there is none. ``train_best``
    is the command that trains it in full. ``importances``: how much of the differences in accuracy
    comes from each dimension of the search, the largest share first; empty for few trials.
    """

    front: tuple[str, ...]
    finalists: tuple[Finalist, ...]
    best: str | None
    train_best: str
    importances: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds. ``error`` is its standard error, None for one seed."""

    mean: float
    error: float | None
    count: int

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ± {self.error:.2f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of at least one value, with its standard error."""
    error = None
    if len(values) > 1:
        error = statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean=statistics.fmean(values), error=error, count=len(values))


@dataclass(frozen=True, kw_only=True)
class VariantRow:
    """The finished trials of one network: its costs, and its accuracy over seeds."""

    name: str
    label: str
    x: float | None
    top1: Estimate
    top5: Estimate
    seconds: float
    measures: TrialMeasures


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """A study.

    ``title`` and ``axis`` name the metaparameter in sentences and on plots. ``data`` says in words
    what the accuracy was measured on. ``settings`` are pairs of a name and a value for the reader.
    ``command`` makes the study again. ``paper`` has the paper's figures by the labels of networks.
    ``search`` is None for a sweep.
    """

    name: str
    title: str
    axis: str
    data: str
    settings: tuple[tuple[str, str], ...]
    command: str
    trials: tuple[TrialRow, ...]
    paper: tuple[tuple[str, PaperFigure], ...] = ()
    search: SearchResults | None = None

    def variants(self) -> list[VariantRow]:
        """Return the networks that have a finished trial, by x, else by their first trial."""
        rows = []
        for name in dict.fromkeys(trial.variant for trial in self.trials):
            trials = [trial for trial in self.trials if trial.variant == name]
            done = [trial.measures for trial in trials if trial.measures is not None]
            if done:
                rows.append(
                    VariantRow(
                        name=name,
                        label=trials[0].label,
                        x=trials[0].x,
                        top1=estimate([m.top1 for m in done]),
                        top5=estimate([m.top5 for m in done]),
                        seconds=statistics.fmean(m.seconds for m in done),
                        measures=done[0],
                    )
                )
        numbers = [row.x for row in rows if row.x is not None]
        if len(numbers) == len(rows):
            rows.sort(key=lambda row: row.x or 0.0)
        return rows

    def front_trials(self) -> list[TrialRow]:
        """Return the trials on a search's front, the smallest file first."""
        names = self.search.front if self.search is not None else ()
        rows = [row for row in self.trials if row.name in names]
        return sorted(rows, key=lambda row: (row.measures and row.measures.file_bytes) or 0)

    @property
    def has_top5(self) -> bool:
        """Whether top-5 says anything: with five classes or fewer it is always 100%."""
        return any(row.top5.mean < 100 for row in self.variants())

    def count(self, state: TrialState) -> int:
        """Return the number of trials in this state."""
        return sum(trial.state == state for trial in self.trials)
