"""What a user asks of a search, and the study that follows."""

from __future__ import annotations

from dataclasses import dataclass, field

from squeezenet.data.digits import DIGITS
from squeezenet.data.sources import TrainingData
from squeezenet.errors import UsageError
from squeezenet.explore.budgets import Budgets
from squeezenet.explore.costs import measure_costs
from squeezenet.explore.definition import (
    StudyDefinition,
    command_line,
    data_settings,
    given,
)
from squeezenet.explore.search import Search, predicted_bytes, search_settings
from squeezenet.explore.space import Space
from squeezenet.explore.trial import open_data
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.progress import Progress
from squeezenet.train.plan import TrainOptions, recipe_for
from squeezenet.train.start import MAX_SMALL_IMAGE, largest_short_side

MAX_TRIALS = 100_000
_INPUT_SIZES = (96, 128, 160, 224)
"""Input sides to choose from for photographs."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The options of a search. ``max_...`` are budgets; ``divergence`` is that of ``compress``.

    Raises:
        UsageError: a value is out of range.
    """

    max_file_bytes: int | None = None
    max_macs: int | None = None
    max_arena_bytes: int | None = None
    max_latency_ms: float | None = None
    trials: int = 50
    divergence: float = 0.07
    training: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= MAX_TRIALS:
            raise UsageError(f"--trials {self.trials}, expected 1 to {MAX_TRIALS}")

    @property
    def budgets(self) -> Budgets:
        """The budgets.

        Raises:
            UsageError: one is not above 0.
        """
        return Budgets(
            file_bytes=self.max_file_bytes,
            macs=self.max_macs,
            arena_bytes=self.max_arena_bytes,
            latency_ms=self.max_latency_ms,
        )


def define_search(
    source: str,
    out: str,
    options: SearchOptions,
    progress: Progress,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> StudyDefinition:
    """Open the data, and make every choice that ``options`` leave open.

    Raises:
        UsageError: a budget is below what the smallest network needs.
        DataError: see ``open_training_data``.
    """
    training, budgets = options.training, options.budgets
    data = open_data(source, training, progress, limits)
    space = _space(source, training, data)
    smallest = measure_costs(space.smallest(), latency=budgets.latency_ms is not None)
    budgets.require_possible(smallest, predicted_bytes(smallest, ()))
    search = Search(
        space=space, budgets=budgets, num_trials=options.trials, divergence=options.divergence
    )
    size = max(space.input_sizes)
    return StudyDefinition(
        title="search",
        axis="network",
        source=source,
        data=data,
        training=training,
        recipe=recipe_for(source, data, training, (size, size)),
        settings={
            "search": search_settings(search),
            "training": given(training),
            "data": data_settings(data),
        },
        measured_on=f"{len(data.val):,} images that are held out from training",
        command=command_line("search", source, out, given(options), given(training)),
        search=search,
        shown=(
            *(
                (name.replace("_", " "), f"at most {limit:,}")
                for name, limit in budgets.limits().items()
            ),
            ("divergence of compress, nats", f"{options.divergence:g}"),
        ),
    )


def _space(source: str, training: TrainOptions, data: TrainingData) -> Space:
    """Networks for the data: small images at their own size, photographs at several."""
    sizes: tuple[int, ...] = _INPUT_SIZES
    side = largest_short_side(data.train)
    if training.input_size is not None:
        sizes = (training.input_size,)
    elif side is not None and side <= MAX_SMALL_IMAGE:
        sizes = (side,)
    return Space(
        input_sizes=sizes,
        input_channels=1 if source == DIGITS else 3,
        num_classes=len(data.class_names),
    )
